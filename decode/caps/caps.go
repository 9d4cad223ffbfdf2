// Package caps knows what the capabilities of Tahoe-LAFS say
// (docs/specifications/uri.rst), what follows from one, and that none leaks: a Cap is printed
// as its kind and an ID, whatever verb or logger prints it, and no error quotes one.
//
// All of it is pure: nothing is read or asked, and nothing here changes.
package caps

import (
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"strconv"
	"strings"
	"unique"

	"spillway/decode/grid"
	"spillway/decode/hashtree"
	"spillway/decode/zfec"
)

// ErrMalformed: the text is no capability. It matches fs.ErrInvalid.
var ErrMalformed error = malformed{}

type malformed struct{}

func (malformed) Error() string { return "malformed capability" }
func (malformed) Unwrap() error { return fs.ErrInvalid }

// UnsupportedError: a capability of a kind that cannot be downloaded. It
// matches errors.ErrUnsupported.
type UnsupportedError struct {
	Kind     string // the cap's prefix, such as "URI:DIR2-RO"
	Verifier bool   // a verify cap: it names a file and grants no reading
}

func (e *UnsupportedError) Error() string {
	switch {
	case e.Verifier:
		return "a verify capability (" + e.Kind + ") grants no reading"
	case strings.HasPrefix(e.Kind, "URI:DIR2"):
		return "directories (" + e.Kind + ") are not supported"
	case strings.HasPrefix(e.Kind, "URI:SSK"), strings.HasPrefix(e.Kind, "URI:MDMF"):
		return "mutable files (" + e.Kind + ") are not supported"
	}
	return "capabilities of the kind " + e.Kind + " are not supported"
}

func (e *UnsupportedError) Unwrap() error { return errors.ErrUnsupported }

// maxSize bounds the size of a file, in bytes, so that sums of sizes and offsets fit an int64.
const maxSize = 1 << 62

// maxLiteral is how many bytes a LIT cap may hold. Tahoe-LAFS makes them of up to 55. A link with
// more than a few kilobytes in it would be a file that nobody has uploaded anywhere.
const maxLiteral = 4 << 10

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

// Parse parses the text of a cap, whose colons are raw. It is strict: there is one
// text for each cap. Errors: ErrMalformed, *UnsupportedError. No
// error holds a part of the text beyond the kind of the cap.
func Parse(text string) (Cap, error) {
	if rest, ok := strings.CutPrefix(text, prefixCHK); ok {
		return parseCHK(rest)
	}
	if rest, ok := strings.CutPrefix(text, prefixLIT); ok {
		data, err := parseBase32(rest, -1)
		switch {
		case err != nil:
			return Cap{}, fmt.Errorf("%w: the data %w", ErrMalformed, err)
		case len(data) > maxLiteral:
			return Cap{}, fmt.Errorf("%w: it holds %d bytes, and uploaders put %d at most into a cap", ErrMalformed, len(data), maxLiteral)
		}
		return NewLiteral(data), nil
	}
	if kind, ok := capKind(text); ok {
		return Cap{}, &UnsupportedError{Kind: kind, Verifier: strings.HasSuffix(kind, "-Verifier")}
	}
	return Cap{}, fmt.Errorf("%w: it does not begin with URI: and a kind", ErrMalformed)
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

// NewLiteral returns the LIT cap that holds the file.
func NewLiteral(data []byte) Cap {
	return seal(capFields{literal: true, data: string(data), size: int64(len(data))})
}

func parseCHK(rest string) (Cap, error) {
	f := capFields{}
	if err := parseFields(rest, f.key[:], "key", &f); err != nil {
		return Cap{}, fmt.Errorf("%w: %w", ErrMalformed, err)
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
	b, err := parseBase32(parts[0], len(first))
	if err != nil {
		return fmt.Errorf("the %s %w", name, err)
	}
	copy(first, b)
	if b, err = parseBase32(parts[1], len(f.ueb)); err != nil {
		return fmt.Errorf("the hash %w", err)
	}
	copy(f.ueb[:], b)
	k, okK := parseDecimal(parts[2])
	n, okN := parseDecimal(parts[3])
	if !okK || !okN || k < 1 || k > n || n > zfec.MaxShares {
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

var errBase32 = errors.New("is not strict base32 of the right length")

// parseBase32 is grid.ParseBase32 for text that is size bytes long, unless size is negative.
func parseBase32(text string, size int) ([]byte, error) {
	b, err := grid.ParseBase32(text)
	if err != nil || (size >= 0 && len(b) != size) {
		return nil, errBase32
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
		return prefixLIT + grid.Base32([]byte(f.data))
	}
	return fmt.Sprintf("%s%s:%s:%d:%d:%d", prefixCHK, grid.Base32(f.key[:]),
		grid.Base32(f.ueb[:]), f.k, f.n, f.size)
}

// Key is what a CHK file is encrypted with, by AES-128-CTR. It is a secret: whoever has it and
// finds the shares can read the file. Nothing gives its bytes. Keys are comparable with ==.
type Key struct {
	h unique.Handle[sealedKey] // as in Cap
}

type sealedKey struct{ h unique.Handle[[16]byte] }

// NewKey returns the key of those bytes.
func NewKey(b [16]byte) Key { return Key{unique.Make(sealedKey{unique.Make(b)})} }

func (k Key) bytes() [16]byte {
	if k == (Key{}) {
		return [16]byte{}
	}
	return k.h.Value().h.Value()
}

// Cipher returns what encrypts and decrypts with the key.
func (k Key) Cipher() cipher.Block {
	b := k.bytes()
	block, err := aes.NewCipher(b[:])
	if err != nil {
		panic("internal error: " + err.Error()) // of other lengths
	}
	return block
}

// StorageIndex returns the name of the shares of the file that is encrypted with the key
// (storage_index_hash in src/allmydata/util/hashutil.py).
func (k Key) StorageIndex() (index grid.StorageIndex) {
	b := k.bytes()
	h := hashtree.Tagged(hashtree.StorageIndexTag, b[:])
	copy(index[:], h[:])
	return index
}

// Format writes that it is a key, whatever the verb.
func (Key) Format(s fmt.State, _ rune) { io.WriteString(s, "key") }

// NewCHK returns the read cap of a file: v's, whose storage index must be the key's.
func NewCHK(key Key, v Verifier) Cap {
	return seal(capFields{key: key.bytes(), ueb: v.UEBHash, k: v.K, n: v.N, size: v.Size})
}

// Key returns what the file is encrypted with; of a LIT cap, zeros.
func (c Cap) Key() Key { return NewKey(c.fields().key) }

// idTag is our own; it is never written to a grid.
const idTag hashtree.Tag = "spillway_cap_to_id_v1"

// ID returns a name of the file that tells nothing of the cap: 26 characters
// of base32, the same on every instance and after every restart.
func (c Cap) ID() string {
	id := hashtree.Tagged(idTag, []byte(c.Reveal()))
	return grid.Base32(id[:16])
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

// Verifier is a verify cap: it names a CHK file and proves its crypttext, and grants no
// reading. Verifiers are comparable with ==.
type Verifier struct {
	StorageIndex grid.StorageIndex // under which servers keep the file's shares
	UEBHash      hashtree.Hash
	K, N         int   // shares that the file needs, and that were made of it
	Size         int64 // of the file, in bytes
}

// ParseVerifier parses the text of a URI:CHK-Verifier cap. Errors: ErrMalformed,
// *UnsupportedError.
func ParseVerifier(text string) (Verifier, error) {
	rest, ok := strings.CutPrefix(text, prefixVerifier)
	if !ok {
		if kind, ok := capKind(text); ok {
			return Verifier{}, &UnsupportedError{Kind: kind, Verifier: strings.HasSuffix(kind, "-Verifier")}
		}
		return Verifier{}, fmt.Errorf("%w: it does not begin with %s", ErrMalformed, prefixVerifier)
	}
	var v Verifier
	var f capFields
	if err := parseFields(rest, v.StorageIndex[:], "storage index", &f); err != nil {
		return Verifier{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	v.UEBHash, v.K, v.N, v.Size = f.ueb, f.k, f.n, f.size
	return v, nil
}

// IsVerifier tells whether the text is meant to be a verify cap of an immutable file.
func IsVerifier(text string) bool { return strings.HasPrefix(text, prefixVerifier) }

// Verifier returns the verify cap of a CHK cap; a LIT cap has none.
func (c Cap) Verifier() (Verifier, bool) {
	f := c.fields()
	if f.literal {
		return Verifier{}, false
	}
	v := Verifier{StorageIndex: NewKey(f.key).StorageIndex(), UEBHash: f.ueb, K: f.k, N: f.n, Size: f.size}
	return v, true
}

// String returns the kind and the storage index.
func (v Verifier) String() string { return prefixVerifier + v.StorageIndex.String() }
