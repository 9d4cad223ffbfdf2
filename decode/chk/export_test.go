package chk

// NewEncoderIn is NewEncoder with hashes in memory up to that many bytes.
func NewEncoderIn(g Geometry, version int, inMemory int64) (*Encoder, error) {
	return newEncoder(g, version, inMemory)
}

// ShareSize returns the length in bytes of every share of a file in the layout
// version, where 0 means the first one that can hold it.
func ShareSize(g Geometry, version int) int64 {
	return newLayout(g, int64(len((&UEB{Geometry: g}).Marshal())), version).size()
}
