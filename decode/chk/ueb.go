package chk

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"spillway/decode/hashtree"
)

// MaxUEBSize bounds the length of a UEB in bytes; real ones have about 500.
const MaxUEBSize = 1 << 15

// UEB is the URI extension block: what the uploader says of the file, under the
// hash that stands in the cap (docs/specifications/URI-extension.rst).
type UEB struct {
	Geometry
	CrypttextHash     hashtree.Hash // of the whole crypttext
	CrypttextRootHash hashtree.Hash // of the tree over its segments
	ShareRootHash     hashtree.Hash // of the tree over the roots of the shares' block hash trees
}

const codecName = "crs"

// Marshal returns the UEB as an uploader writes it.
func (u *UEB) Marshal() []byte {
	fields := map[string]string{
		"codec_name":          codecName,
		"codec_params":        codecParams(u.SegmentSize, u.K, u.N),
		"tail_codec_params":   codecParams(u.tailSize(), u.K, u.N),
		"size":                strconv.FormatInt(u.Size, 10),
		"segment_size":        strconv.FormatInt(u.SegmentSize, 10),
		"num_segments":        strconv.FormatInt(u.Segments(), 10),
		"needed_shares":       strconv.Itoa(u.K),
		"total_shares":        strconv.Itoa(u.N),
		"crypttext_hash":      string(u.CrypttextHash[:]),
		"crypttext_root_hash": string(u.CrypttextRootHash[:]),
		"share_root_hash":     string(u.ShareRootHash[:]),
	}
	keys := make([]string, 0, len(fields))
	for k := range fields {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	var b []byte
	for _, k := range keys {
		b = fmt.Appendf(b, "%s:%d:%s,", k, len(fields[k]), fields[k])
	}
	return b
}

func codecParams(segment int64, k, n int) string {
	return fmt.Sprintf("%d-%d-%d", segment, k, n)
}

// Hash returns the hash that a cap holds of a UEB's bytes.
func Hash(ueb []byte) hashtree.Hash { return hashtree.Tagged(hashtree.UEBTag, ueb) }

// ParseUEB parses a UEB whose hash has been verified and which must be that of a
// file of size bytes, k-of-n. Unknown keys are ignored. An error says in what
// the UEB contradicts itself or the cap.
func ParseUEB(b []byte, size int64, k, n int) (*UEB, error) {
	fields, err := parseFields(b)
	if err != nil {
		return nil, err
	}
	p := uebParser{fields: fields}
	u := &UEB{}
	u.Size, u.SegmentSize = p.number("size"), p.number("segment_size")
	needed, total, segments := p.number("needed_shares"), p.number("total_shares"), p.number("num_segments")
	u.CrypttextRootHash, u.ShareRootHash = p.hash("crypttext_root_hash"), p.hash("share_root_hash")
	if _, ok := fields["crypttext_hash"]; ok {
		u.CrypttextHash = p.hash("crypttext_hash")
	}
	p.equal("codec_name", codecName)
	if p.err != nil {
		return nil, p.err
	}
	if u.Size != size || needed != int64(k) || total != int64(n) {
		return nil, fmt.Errorf("chk: the UEB is of a file of %d bytes, %d-of-%d, the cap of %d bytes, %d-of-%d",
			u.Size, needed, total, size, k, n)
	}
	u.K, u.N = k, n
	if err := u.check(); err != nil {
		return nil, err
	}
	if u.Segments() != segments {
		return nil, fmt.Errorf("chk: the UEB counts %d segments where there are %d", segments, u.Segments())
	}
	p.equal("codec_params", codecParams(u.SegmentSize, k, n))
	p.equal("tail_codec_params", codecParams(u.tailSize(), k, n))
	return u, p.err
}

// parseFields parses key:netstring pairs.
func parseFields(b []byte) (map[string][]byte, error) {
	if len(b) > MaxUEBSize {
		return nil, errors.New("chk: the UEB is too long")
	}
	fields := map[string][]byte{}
	for len(b) > 0 {
		key, rest, ok := bytes.Cut(b, []byte(":"))
		if !ok {
			return nil, errors.New("chk: the UEB ends in a key")
		}
		length, rest, ok := bytes.Cut(rest, []byte(":"))
		n, okLength := parseDecimal(length)
		if !ok || !okLength || n >= int64(len(rest)) || rest[n] != ',' {
			return nil, fmt.Errorf("chk: the UEB's value of %.40q is no netstring", key)
		}
		if _, twice := fields[string(key)]; twice {
			return nil, fmt.Errorf("chk: the UEB has %.40q twice", key)
		}
		fields[string(key)] = rest[:n]
		b = rest[n+1:]
	}
	return fields, nil
}

func parseDecimal(b []byte) (int64, bool) {
	v, err := strconv.ParseInt(string(b), 10, 64)
	return v, err == nil && v >= 0 && strconv.FormatInt(v, 10) == string(b)
}

// uebParser converts fields and keeps the first error.
type uebParser struct {
	fields map[string][]byte
	err    error
}

func (p *uebParser) fail(format string, args ...any) {
	if p.err == nil {
		p.err = fmt.Errorf("chk: the UEB's "+format, args...)
	}
}

func (p *uebParser) value(key string) []byte {
	v, ok := p.fields[key]
	if !ok {
		p.fail("%s is missing", key)
	}
	return v
}

func (p *uebParser) number(key string) int64 {
	v, ok := parseDecimal(p.value(key))
	if !ok {
		p.fail("%s is no number", key)
	}
	return v
}

func (p *uebParser) hash(key string) (h hashtree.Hash) {
	if v := p.value(key); copy(h[:], v) != len(h) || len(v) != len(h) {
		p.fail("%s is no hash", key)
	}
	return h
}

func (p *uebParser) equal(key, want string) {
	if v := p.value(key); string(v) != want {
		p.fail("%s is %.60q and should be %q", key, v, want)
	}
}
