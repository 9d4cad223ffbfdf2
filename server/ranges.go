package server

import (
	"math"
	"net/textproto"
	"strings"

	"spillway/spool"
)

// maxRanges is how many ranges one request may ask for. A request for more gets the whole file.
// Programs that update a file ask for 500 at once; each range costs a part header.
const maxRanges = 1000

// A rangeSet says what a Range field asks of a file.
type rangeSet int

const (
	rangeIgnored       rangeSet = iota // absent, malformed or of another unit: answer 200
	rangeUnsatisfiable                 // well-formed, and nothing of it lies in the file: 416
	rangeSatisfiable                   // at least one range lies in the file: answer 206
)

// parseRange reads the values of the Range fields of a request for a file of
// size bytes (RFC 9110, section 14.2). The extents are those ranges that
// overlap the file, cut to it, in the order in which they were asked.
//
// A malformed field is ignored, which section 14.2 allows; so is a repeated
// one, since Range is no list field. More than maxRanges ranges, and ranges
// that together hold more bytes than the file, are ignored as well.
func parseRange(fields []string, size int64) ([]spool.Extent, rangeSet) {
	if len(fields) != 1 {
		return nil, rangeIgnored
	}
	if size == 0 {
		return nil, rangeIgnored // as Go and nginx do: there is nothing that could be asked for
	}
	unit, set, ok := strings.Cut(fields[0], "=")
	if !ok || !strings.EqualFold(textproto.TrimString(unit), "bytes") {
		return nil, rangeIgnored
	}
	var extents []spool.Extent
	var total int64
	specs := 0
	for spec := range strings.SplitSeq(set, ",") {
		spec = textproto.TrimString(spec)
		if spec == "" {
			continue // section 5.6.1.2: a recipient accepts empty list elements
		}
		specs++
		extent, overlaps, ok := parseRangeSpec(spec, size)
		if !ok || specs > maxRanges {
			return nil, rangeIgnored
		}
		if overlaps {
			extents = append(extents, extent)
			if extent.End-extent.Off > size-total {
				return nil, rangeIgnored
			}
			total += extent.End - extent.Off
		}
	}
	switch {
	case specs == 0:
		return nil, rangeIgnored
	case len(extents) == 0:
		return nil, rangeUnsatisfiable
	}
	return extents, rangeSatisfiable
}

// parseRangeSpec reads one int-range or suffix-range (RFC 9110, section
// 14.1.1). overlaps is false if the range, though well-formed, has no byte in
// the file.
func parseRangeSpec(spec string, size int64) (extent spool.Extent, overlaps, ok bool) {
	first, last, found := strings.Cut(spec, "-")
	if !found {
		return extent, false, false
	}
	if first == "" {
		suffix, ok := parsePosition(last)
		if !ok {
			return extent, false, false
		}
		extent = spool.Extent{Off: max(0, size-suffix), End: size}
		return extent, extent.Off < extent.End, true
	}
	off, ok := parsePosition(first)
	if !ok {
		return extent, false, false
	}
	end := size
	if last != "" {
		pos, ok := parsePosition(last)
		if !ok || pos < off {
			return extent, false, false
		}
		if pos < size {
			end = pos + 1
		}
	}
	return spool.Extent{Off: off, End: end}, off < size, true
}

// parsePosition reads 1*DIGIT. A number beyond int64 is valid, and beyond
// every file: it is returned as MaxInt64.
func parsePosition(s string) (int64, bool) {
	if s == "" {
		return 0, false
	}
	var n int64
	for i := range len(s) {
		c := s[i]
		if c < '0' || c > '9' {
			return 0, false
		}
		if n > (math.MaxInt64-9)/10 {
			n = math.MaxInt64
			continue
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}
