// Package decode turns a capability into verified plaintext, a chunk at a time and in any order.
//
// The words: a share is one of n pieces of a file, any k of which are enough; a segment is what is
// erasure-coded at once; a block is what one share has of one segment; a chunk is some consecutive
// segments, about a megabyte; a run is some consecutive chunks that are decoded at once; a page is
// a part of a hash tree.
//
// A byte comes about in these steps. Each names the part of a File that does it, which owns its
// state and its lock (see package ranked for their order).
//
//  1. Open asks the servers which shares they have (roster.go, ask.go). At hand it asks k of them
//     first; far away all at once, and it reads the beginnings of shares before it knows how the
//     file is cut (early.go).
//  2. The UEB is read from one share, where it usually is, and proven by the cap (ueb.go). From it
//     follows how the file is cut into chunks (cut.go). What has been verified is remembered for
//     the next Open (metadata.go).
//  3. WriteChunks waits until one more run may be under way (flow.go, startup.go) and until there
//     is memory for it (package allowance).
//  4. The blocks of k distinct shares are gathered, from the servers that would bring them soonest;
//     a read that fails is replaced, and one that is late gets a competitor (gather.go, package
//     fleet).
//  5. Meanwhile the hashes of the segments come from a page of the crypttext hash tree, which the
//     UEB proves (pages.go).
//  6. A few segments at a time are erasure-decoded, hashed, compared, decrypted and written
//     (chunk.go).
//  7. Only if a hash is wrong are the blocks verified one by one, to find the share that is bad; it
//     is left out of the run, another one takes its place, and step 6 goes on (blocks.go).
//
// Invariants: no byte that has not passed its hash leaves a File; nothing that a share says is
// trusted before it is proven; no share is given up for good because one of its blocks was bad;
// memory for chunks is bounded by Config.Memory, whoever asks for them; memory for metadata is flat
// in the file's size.
//
// Everything is safe for concurrent use. Goroutines: those of a File (its questions to servers,
// what is read once for many) end in File.Close; those that read blocks stay with the Client's
// chunks until the last File closes; Client.Close closes all Files and waits.
package decode
