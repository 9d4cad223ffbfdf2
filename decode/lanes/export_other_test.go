//go:build !amd64 || purego

package lanes

// Plans returns Sum and what it is made of, by name.
func Plans() map[string]func(digests [][Size]byte, prefix []byte, messages [][]byte) {
	return map[string]func([][Size]byte, []byte, [][]byte){"crypto": sumInTurn, "best": sum}
}
