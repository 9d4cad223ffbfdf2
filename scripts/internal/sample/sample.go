// Package sample makes files of any size whose bytes follow from a seed.
package sample

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// Sum is a SHA-256 in hex.
type Sum string

// Write makes a file of size bytes in a temporary directory of the test and
// returns its path and its SHA-256.
func Write(tb testing.TB, seed byte, size int64) (string, Sum) {
	tb.Helper()
	f, err := os.Create(filepath.Join(tb.TempDir(), "sample"))
	if err != nil {
		tb.Fatal(err)
	}
	hash := sha256.New()
	_, err = io.CopyN(io.MultiWriter(f, hash), rand.NewChaCha8([32]byte{seed}), size)
	if err2 := f.Close(); err == nil {
		err = err2
	}
	if err != nil {
		tb.Fatal(err)
	}
	return f.Name(), Sum(hex.EncodeToString(hash.Sum(nil)))
}

// SumOf reads r to its end; it fails the test if that fails.
func SumOf(tb testing.TB, r io.Reader) Sum {
	tb.Helper()
	hash := sha256.New()
	if _, err := io.Copy(hash, r); err != nil {
		tb.Fatal(err)
	}
	return Sum(hex.EncodeToString(hash.Sum(nil)))
}

// SumOfFile returns the SHA-256 of the file at path.
func SumOfFile(tb testing.TB, path string) Sum {
	tb.Helper()
	f, err := os.Open(path)
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	return SumOf(tb, f)
}
