package chk

// NewEncoderIn is NewEncoder with hashes in memory up to that many bytes.
func NewEncoderIn(g Geometry, version int, inMemory int64) (*Encoder, error) {
	return newEncoder(g, version, inMemory)
}
