// Package lanes computes the SHA-256 (FIPS 180-4) of several messages at once.
//
// A processor that hashes one message spends most of its time waiting for the
// step before. Messages that have nothing to do with each other fill that
// time: on amd64 they are hashed side by side, in turns through the SHA
// extensions or in the lanes of AVX-512's registers. Elsewhere, with the build
// tag purego, and for a message alone it is crypto/sha256 that hashes.
package lanes

import (
	"crypto/sha256"
	"fmt"
	"unsafe"
)

const (
	// Size is the length of a digest in bytes.
	Size = sha256.Size
	// Width is how many messages at most are hashed at the same time.
	Width = 16
)

// Sum sets digests[i] to the SHA-256 of prefix followed by messages[i], for
// each message. There may be any number of messages, of any lengths, anywhere
// in memory; prefix may be empty. It panics if there are not as many digests as messages. Digests
// must not overlap prefix or messages.
//
// It is fastest for messages of one length: the more of them, up to Width, the faster, and eight
// are much better than seven. It allocates nothing and calls may run at the same time.
func Sum[D ~[Size]byte](digests []D, prefix []byte, messages [][]byte) {
	if len(digests) != len(messages) {
		panic(fmt.Sprintf("internal error: %d digests for %d messages", len(digests), len(messages)))
	}
	// D is an array of Size bytes under whatever name.
	sum(unsafe.Slice((*[Size]byte)(unsafe.Pointer(unsafe.SliceData(digests))), len(digests)), prefix, messages)
}

// sumInTurn hashes one message after another.
func sumInTurn(digests [][Size]byte, prefix []byte, messages [][]byte) {
	h := sha256.New()
	for i, m := range messages {
		h.Reset()
		h.Write(prefix)
		h.Write(m)
		h.Sum(digests[i][:0])
	}
}
