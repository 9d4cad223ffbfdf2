package main

import (
	"fmt"
	"math"

	"github.com/dustin/go-humanize"
)

// size is a number of bytes as people write it: 131072, 128KiB, 70MB. As a flag it is one at least.
type size int64

func (s *size) UnmarshalText(text []byte) error {
	n, err := humanize.ParseBytes(string(text))
	switch {
	case err != nil || n > math.MaxInt64:
		return fmt.Errorf("%q is no size; write 131072, 128KiB or 70MB", text)
	case n == 0:
		return fmt.Errorf("%q is less than a byte; write 131072, 128KiB or 70MB", text)
	}
	*s = size(n)
	return nil
}

func (s size) String() string { return humanize.IBytes(uint64(s)) }
