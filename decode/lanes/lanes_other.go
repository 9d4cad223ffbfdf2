//go:build !amd64 || purego

package lanes

func sum(digests [][Size]byte, prefix []byte, messages [][]byte) {
	sumInTurn(digests, prefix, messages)
}
