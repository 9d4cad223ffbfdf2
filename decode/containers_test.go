package decode_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"spillway/decode"
	"spillway/decode/decodetest"
	"spillway/decode/fleet"
	"spillway/decode/grid/dir"
)

// TestContainers damages the container of share 0 in a storage directory.
func TestContainers(t *testing.T) {
	for name, test := range map[string]struct {
		part   string // what the log calls corrupt; "": nothing
		damage func(b []byte) []byte
	}{
		"version":              {"container", func(b []byte) []byte { b[3] ^= 4; return b }},
		"other version":        {"", func(b []byte) []byte { b[3] = 1; return b }},
		"length":               {"", func(b []byte) []byte { b[4] ^= 1; return b }},
		"lease count high":     {"container", func(b []byte) []byte { b[8] ^= 1; return b }},
		"one lease more":       {"UEB", func(b []byte) []byte { b[11]++; return b }},
		"one lease less":       {"", func(b []byte) []byte { b[11]--; return b }},
		"lease":                {"", func(b []byte) []byte { b[len(b)-60] ^= 1; return b }},
		"empty":                {"container", func([]byte) []byte { return nil }},
		"truncated in a block": {"UEB", func(b []byte) []byte { return b[:len(b)/2] }},
		"oversized":            {"", func(b []byte) []byte { return append(b, b...) }},
		"mutable":              {"container", func(b []byte) []byte { return append([]byte("Tahoe mutable container v1\n"), b...) }},
	} {
		t.Run(name, func(t *testing.T) {
			base := t.TempDir()
			var log decodetest.LogBook
			client := newClient(t, config{Servers: []fleet.Server{{Server: dir.New(base)}}, Log: log.Logger()})
			data := decodetest.Plaintext(100_000)
			c := putInto(t, dir.New(base), data, putOptions{K: 2, N: 3, SegmentSize: 30_000})
			si := decodetest.StorageIndex(t, c).String()
			slot := filepath.Join(base, "shares", si[:2], si)
			b, err := os.ReadFile(filepath.Join(slot, "0"))
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(slot, "0"), test.damage(b), 0o600); err != nil {
				t.Fatal(err)
			}
			if got, err := decodetest.Get(t.Context(), client, c); err != nil || !bytes.Equal(got, data) {
				t.Errorf("%v", err)
			}
			lines := log.Lines("corrupt share")
			if named := log.Lines("share=0 ", "part="+test.part+" "); test.part == "" && lines != nil || test.part != "" && (len(lines) != 1 || len(named) != 1) {
				t.Errorf("the log tells of %q", lines)
			}
			r, err := client.Check(t.Context(), decodetest.Verifier(t, c))
			if want := 3 - len(lines); err != nil || r.GoodDistinct != want || !r.Healthy {
				t.Errorf("%+v, %v", r, err)
			}
			// With one good share besides, the file is lost only if share 0's blocks are.
			if err := os.Remove(filepath.Join(slot, "2")); err != nil {
				t.Fatal(err)
			}
			other := newClient(t, config{Servers: []fleet.Server{{Server: dir.New(base)}}})
			got, err := decodetest.Get(t.Context(), other, c)
			var missing *decode.NotEnoughSharesError
			if lost := test.part == "container" || name == "truncated in a block"; lost != errors.As(err, &missing) || !lost && (err != nil || !bytes.Equal(got, data)) {
				t.Errorf("of two shares: %v", err)
			}
		})
	}
}
