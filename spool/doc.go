// Package spool keeps the bytes of files that somebody is downloading, or may soon go on
// downloading, in nameless files on a disk. It knows bytes and time. It knows nothing of what the
// bytes mean, of who reads them or how.
//
// # What it promises
//
//   - A Reader gets the bytes that the Source wrote, or an error.
//   - A file is decoded once, however many readers it has, as long as one of them is there, and for
//     Config.Retention afterwards unless the space is needed.
//   - A spool file has no name. Whatever ends the process, the kernel gives its blocks back.
//     See decision unlinked-spool-files.
//   - The bytes of all files never exceed Config.Budget. They count from the moment they are set
//     aside until the kernel has them back.
//   - A file that is spooled whole cannot run out of disk once its readers have it, if the file
//     system can allocate. See decision whole-size-is-allocated-first.
//   - What one file does harms no other one: a download that has begun loses nothing to one that
//     comes later, and a chunk that cannot be decoded concerns only who waits for it.
//   - Of a file of any size memory holds three bits for each chunk, and no bytes.
//   - When Close returns, no goroutine, descriptor or block is left.
//
// # Words
//
// An entry is one spooled file with all that is known of it. A chunk is the unit in which its
// Source decodes, and a run is consecutive chunks that are decoded at once. The fill of an entry is
// the goroutine that decodes it, with its workers. A gap is what is not spooled yet; a hole is what
// was spooled and has been punched out again. A window is an entry of one reader that is never
// spooled whole. An entry without readers is idle. One that is out of the index is retired.
//
// # The way of a file
//
//  1. Acquire joins the entry of its key. If there is none it opens the file's Source, once for all
//     who ask: a key and a size are a claim, and nothing is spent on a claim before it is proven.
//     Then it reserves the whole size for a new entry, at the cost of idle entries where it must,
//     the longest unread first. The Source is kept for the first fill.
//  2. If that cannot be had, it makes a private window, for which less is reserved. If not even
//     that can be had, it is refused (ErrFull).
//  3. The entry's file is made and its blocks are allocated, outside the lock. Readers that join
//     meanwhile wait for that.
//  4. Want says what a reader will read, and begins the fill. Wait waits for a byte. Both only
//     write down what is needed; see Work and plan for who decides what is decoded.
//  5. The fill takes the Source that is open, or opens one, and decodes until the entry is whole,
//     or nobody has read it for Config.Linger, or the disk is full, or nothing is left but what has
//     failed. Then it closes the Source. What is spooled stays, and a reader that lacks something
//     begins another fill.
//  6. A chunk that fails is tried again when a reader next waits for it. After a few failures in a
//     row nothing else is tried.
//  7. When the last reader leaves, the entry becomes idle and its retention begins. A window is
//     retired at once, as is everything if there is no retention.
//  8. Retention ends, the space is needed, a purge, or Close: each retires the entry. It is out of
//     the index, and its fill is told to stop. Readers that lack nothing may go on.
//  9. Whoever leaves a retired entry last, be it a reader or its fill, closes the file. Only then
//     the bytes are given back to the budget.
//
// # What always holds
//
//   - The sum of what entries have reserved is what the Spool has reserved, within the budget.
//   - An entry is in the index, or is a window, or is retired.
//   - An entry is in the list of idle ones if and only if it has no readers and is not retired.
//   - A chunk that is spooled is not being decoded, and has not failed.
//   - A reader that waits has a fill at work for it.
//   - A window has no more bytes on the disk than it has reserved.
//
// Tests check these after each step.
//
// # The lock
//
// One mutex, Spool.mu, guards the index, every entry and every Reader, so there is no order of
// locks to keep. See decision one-lock-in-spool. Functions named Locked are called with it.
//
// Under it there is no I/O, no call of an OpenFunc, of a Source, of a function given to OnCut or of
// the logger, and no waiting for anybody, but for workers, which give it up meanwhile. Nothing
// takes longer for a larger file, but for the scan of a bitmap of one bit a chunk.
//
// # Goroutines
//
// The reaper watches retention. Each file that is being opened for Acquire has a goroutine. Each
// entry has one fill while there is something to decode, and the fill has workers. Close waits for
// all of them.
package spool
