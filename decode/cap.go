package decode

import (
	"encoding/base32"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strconv"
	"strings"
	"unique"

	"spillway/decode/grid"
	"spillway/decode/hashtree"
)

// ErrMalformedCap: the text is no capability. It matches fs.ErrInvalid.
var ErrMalformedCap error = malformedCap{}

type malformedCap struct{}

func (malformedCap) Error() string { return "decode: malformed capability" }
func (malformedCap) Unwrap() error { return fs.ErrInvalid }

// UnsupportedCapError: a capability of a kind that cannot be downloaded. It
// matches errors.ErrUnsupported.
type UnsupportedCapError struct {
	Kind     string // the cap's prefix, such as "URI:DIR2-RO"
	Verifier bool   // a verify cap: it names a file and grants no reading
}

func (e *UnsupportedCapError) Error() string {
	switch {
	case e.Verifier:
		return "decode: a verify capability (" + e.Kind + ") grants no reading"
	case strings.HasPrefix(e.Kind, "URI:DIR2"):
		return "decode: directories (" + e.Kind + ") are not supported"
	case strings.HasPrefix(e.Kind, "URI:SSK"), strings.HasPrefix(e.Kind, "URI:MDMF"):
		return "decode: mutable files (" + e.Kind + ") are not supported"
	}
	return "decode: capabilities of the kind " + e.Kind + " are not supported"
}

func (e *UnsupportedCapError) Unwrap() error { return errors.ErrUnsupported }

// MaxShares is the greatest number of shares a file can have: zfec computes in GF(2^8).
const MaxShares = 256

// maxSize bounds the size of a file, in bytes, so that sums of sizes and offsets fit an int64.
const maxSize = 1 << 62

const (
	prefixCHK      = "URI:CHK:"
	prefixLIT      = "URI:LIT:"
	prefixVerifier = "URI:CHK-Verifier:"
)

// Cap is a read capability, CHK or LIT (Tahoe-LAFS docs/specifications/uri.rst).
// It is a secret: whoever has it can read the file. Caps are comparable with ==.
// However one is formatted or logged, only Reveal gives the text.
type Cap struct {
	// Handles keep the fields from fmt also where a Cap is an unexported field of
	// another struct and Format is not called. Two, because fmt follows one
	// pointer when the verb does not fit.
	h unique.Handle[sealed]
}

type sealed struct{ h unique.Handle[capFields] }

func seal(f capFields) Cap { return Cap{unique.Make(sealed{unique.Make(f)})} }

type capFields struct {
	literal bool
	data    string        // LIT: the file
	key     [16]byte      // CHK
	ueb     hashtree.Hash // CHK
	k, n    int
	size    int64
}

// ParseCap parses the text of a cap, whose colons are raw. It is strict: there is one
// text for each cap. Errors: ErrMalformedCap, *UnsupportedCapError. No
// error holds a part of the text beyond the kind of the cap.
func ParseCap(text string) (Cap, error) {
	if rest, ok := strings.CutPrefix(text, prefixCHK); ok {
		return parseCHK(rest)
	}
	if rest, ok := strings.CutPrefix(text, prefixLIT); ok {
		data, err := decodeBase32(rest, -1)
		if err != nil {
			return Cap{}, fmt.Errorf("%w: the data %w", ErrMalformedCap, err)
		}
		return literalCap(data), nil
	}
	if kind, ok := capKind(text); ok {
		return Cap{}, &UnsupportedCapError{Kind: kind, Verifier: strings.HasSuffix(kind, "-Verifier")}
	}
	return Cap{}, fmt.Errorf("%w: it does not begin with URI: and a kind", ErrMalformedCap)
}

// capKind returns the prefix of a cap. What it accepts cannot hold a secret,
// which is lower-case base32.
func capKind(text string) (string, bool) {
	rest, ok := strings.CutPrefix(text, "URI:")
	kind, _, colon := strings.Cut(rest, ":")
	if !ok || !colon || kind == "" || len(kind) > 32 {
		return "", false
	}
	for _, r := range strings.TrimSuffix(kind, "-Verifier") {
		if (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' {
			return "", false
		}
	}
	return "URI:" + kind, true
}

func literalCap(data []byte) Cap {
	return seal(capFields{literal: true, data: string(data), size: int64(len(data))})
}

func parseCHK(rest string) (Cap, error) {
	f := capFields{}
	if err := parseFields(rest, f.key[:], "key", &f); err != nil {
		return Cap{}, fmt.Errorf("%w: %w", ErrMalformedCap, err)
	}
	return seal(f), nil
}

// parseFields parses what CHK caps and their verify caps have in common:
// 16 bytes, UEB hash, k, n and size.
func parseFields(rest string, first []byte, name string, f *capFields) error {
	parts := strings.Split(rest, ":")
	if len(parts) != 5 {
		return errors.New("it has not five fields")
	}
	b, err := decodeBase32(parts[0], len(first))
	if err != nil {
		return fmt.Errorf("the %s %w", name, err)
	}
	copy(first, b)
	if b, err = decodeBase32(parts[1], len(f.ueb)); err != nil {
		return fmt.Errorf("the hash %w", err)
	}
	copy(f.ueb[:], b)
	k, okK := parseDecimal(parts[2])
	n, okN := parseDecimal(parts[3])
	if !okK || !okN || k < 1 || k > n || n > MaxShares {
		return errors.New("the numbers of shares are not 1 <= k <= n <= 256")
	}
	size, ok := parseDecimal(parts[4])
	if !ok || size < 1 || size >= maxSize {
		return errors.New("the size is not a number from 1 to 2^62")
	}
	f.k, f.n, f.size = int(k), int(n), size
	return nil
}

// parseDecimal parses a number as Tahoe-LAFS writes it: no sign, no leading zero.
func parseDecimal(s string) (int64, bool) {
	v, err := strconv.ParseInt(s, 10, 64)
	return v, err == nil && v >= 0 && strconv.FormatInt(v, 10) == s
}

var base32Encoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

var errBase32 = errors.New("is not strict base32 of the right length")

// decodeBase32 decodes s, which must be exactly what encoding would give and,
// unless size is negative, size bytes long.
func decodeBase32(s string, size int) ([]byte, error) {
	b, err := base32Encoding.DecodeString(s)
	if err != nil || base32Encoding.EncodeToString(b) != s || (size >= 0 && len(b) != size) {
		return nil, errBase32 // the decoder's own error might quote the secret
	}
	return b, nil
}

func (c Cap) fields() capFields {
	if c == (Cap{}) {
		return capFields{literal: true}
	}
	return c.h.Value().h.Value()
}

// Reveal returns the text of the cap, for the one who owns it. It must not
// reach a log, a metric, a page or an error.
func (c Cap) Reveal() string {
	f := c.fields()
	if f.literal {
		return prefixLIT + base32Encoding.EncodeToString([]byte(f.data))
	}
	return fmt.Sprintf("%s%s:%s:%d:%d:%d", prefixCHK, base32Encoding.EncodeToString(f.key[:]),
		base32Encoding.EncodeToString(f.ueb[:]), f.k, f.n, f.size)
}

// idTag is our own; it is never written to a grid.
const idTag hashtree.Tag = "spillway_cap_to_id_v1"

// ID returns a name of the file that tells nothing of the cap: 26 characters
// of base32, the same on every instance and after every restart.
func (c Cap) ID() string {
	id := hashtree.Tagged(idTag, []byte(c.Reveal()))
	return base32Encoding.EncodeToString(id[:16])
}

// Size returns the length of the file in bytes.
func (c Cap) Size() int64 { return c.fields().size }

// Literal returns the file itself if the cap is a LIT cap.
func (c Cap) Literal() ([]byte, bool) {
	f := c.fields()
	return []byte(f.data), f.literal
}

// String returns the kind and the ID.
func (c Cap) String() string {
	if c.fields().literal {
		return "LIT:" + c.ID()
	}
	return "CHK:" + c.ID()
}

// Format writes String, whatever the verb.
func (c Cap) Format(s fmt.State, _ rune) { fmt.Fprint(s, c.String()) }

// GoString returns String.
func (c Cap) GoString() string { return c.String() }

// LogValue returns String as a value for log/slog.
func (c Cap) LogValue() slog.Value { return slog.StringValue(c.String()) }

// VerifyCap names a CHK file and proves its crypttext; it grants no reading.
// VerifyCaps are comparable with ==.
type VerifyCap struct {
	index grid.StorageIndex
	ueb   hashtree.Hash
	k, n  int
	size  int64
}

// ParseVerifyCap parses the text of a URI:CHK-Verifier cap. Errors:
// ErrMalformedCap, *UnsupportedCapError.
func ParseVerifyCap(text string) (VerifyCap, error) {
	rest, ok := strings.CutPrefix(text, prefixVerifier)
	if !ok {
		if kind, ok := capKind(text); ok {
			return VerifyCap{}, &UnsupportedCapError{Kind: kind, Verifier: strings.HasSuffix(kind, "-Verifier")}
		}
		return VerifyCap{}, fmt.Errorf("%w: it does not begin with %s", ErrMalformedCap, prefixVerifier)
	}
	var v VerifyCap
	var f capFields
	if err := parseFields(rest, v.index[:], "storage index", &f); err != nil {
		return VerifyCap{}, fmt.Errorf("%w: %w", ErrMalformedCap, err)
	}
	v.ueb, v.k, v.n, v.size = f.ueb, f.k, f.n, f.size
	return v, nil
}

// VerifyCap returns the verify cap of a CHK cap; a LIT cap has none.
func (c Cap) VerifyCap() (VerifyCap, bool) {
	f := c.fields()
	if f.literal {
		return VerifyCap{}, false
	}
	h := hashtree.Tagged(hashtree.StorageIndexTag, f.key[:])
	v := VerifyCap{ueb: f.ueb, k: f.k, n: f.n, size: f.size}
	copy(v.index[:], h[:])
	return v, true
}

// StorageIndex returns the name under which servers keep the file's shares.
func (v VerifyCap) StorageIndex() grid.StorageIndex { return v.index }

// Shares returns how many different shares the file needs, k, and how many were made of it, n.
func (v VerifyCap) Shares() (k, n int) { return v.k, v.n }

// Size returns the length of the file in bytes.
func (v VerifyCap) Size() int64 { return v.size }

// String returns the kind and the storage index.
func (v VerifyCap) String() string { return prefixVerifier + v.index.String() }
