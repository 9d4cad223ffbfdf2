// Package upload writes immutable files to the servers of a grid, and proves that they are there.
//
// A Put goes through these steps:
//
//  1. The file's key is made: of a convergence secret and the file, or at random.
//  2. All servers are asked for the shares that they hold. Those shares stay and count; their
//     leases are renewed.
//  3. The others are placed, one on each server in the order in which clients search for them, then
//     around again. A server that takes none is passed over (placement.go, pure functions).
//  4. The file is encoded, a piece of all shares at a time, and the pieces are sent to all servers
//     side by side (put.go). A share that cannot be written is given up, as long as there are
//     enough without it.
//  5. The shares are committed.
//  6. The servers are asked for what they hold, and the beginning and the end of each share are
//     compared with what was written (shipment.go). That also settles what a lost answer to a
//     commit means.
//
// Invariants: no share becomes visible before every share has arrived that still counts; what was
// begun and not committed is discarded whatever happens, or named in the error; memory is bounded
// by Config.Memory, whatever the file's size; whatever waits for servers waits for all of them at
// the same time, and not for ever.
//
// Goroutines belong to a Put and have ended when it returns. Uploader.Close cancels and waits for
// all Puts.
package upload
