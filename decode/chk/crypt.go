package chk

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
)

// Crypt encrypts or decrypts b in place, which stands at off in the file: AES-128-CTR, one stream
// over the whole file from a counter of 0 (docs/specifications/file-encoding.rst).
func Crypt(key cipher.Block, b []byte, off int64) {
	var counter [aes.BlockSize]byte
	binary.BigEndian.PutUint64(counter[8:], uint64(off/aes.BlockSize))
	stream := cipher.NewCTR(key, counter[:])
	if skip := off % aes.BlockSize; skip != 0 {
		var discard [aes.BlockSize]byte
		stream.XORKeyStream(discard[:skip], discard[:skip])
	}
	stream.XORKeyStream(b, b)
}
