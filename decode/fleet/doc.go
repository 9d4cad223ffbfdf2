// Package fleet knows the storage servers of a grid: which there are, how far away and how quick
// each is, whose turn it is, when another one is to be asked because one is late, and what they
// are still to be told. It knows nothing of files, shares' contents or capabilities.
//
// What a request to a server goes through:
//
//  1. Join gives its caller the members there are, each of which stays until Leave, also when
//     SetServers replaces it meanwhile.
//  2. Whoever has a choice sorts members by Outlook, or by Permute where it is about where shares
//     are placed.
//  3. Begin waits until the server's turn has come: it answers sixteen requests at a time, fewer if
//     it is slow, and of those that wait the holder with the fewest goes first.
//  4. Request.End tells how long it took and what it brought. From that follow the member's
//     distance, its throughput, and what is late.
//  5. A Watch says when the request is late, and whether its reader may ask somebody else as well.
//     Failures and silence (Fail, Watch.Late) put a member behind all others for a while.
//
// Invariants: a member is closed once, when nobody uses it; no server is told twice of a share; no
// more than one request in ten is made because another one was late, beyond a few dozen at once,
// before that has lasted 1.5 s.
//
// Everything is safe for concurrent use. Goroutines: one for each server that is being told of
// corrupt shares; StayConnected and Ping use those of their callers and some that end before they
// return. Close waits for all.
package fleet
