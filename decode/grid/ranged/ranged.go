// Package ranged knows what HTTP servers answer to a request for a range of bytes
// (RFC 9110, section 14.4). Kinds of servers that are asked over HTTP have it in common.
package ranged

import (
	"errors"
	"io"
	"strconv"
	"strings"
)

// ErrContentRange: the Content-Range says nothing that can be used. It quotes nothing.
var ErrContentRange = errors.New("the server sends a part without a readable Content-Range")

// ParseContentRange parses the Content-Range of a part: the first and the last byte, and the size
// of the whole in bytes, or -1 if the server does not tell. Nothing else is negative. Whether the
// numbers fit each other, and what was asked for, is for the caller to see. The error is
// ErrContentRange.
func ParseContentRange(text string) (first, last, total int64, err error) {
	text, ok1 := strings.CutPrefix(text, "bytes ")
	text, totalText, ok2 := strings.Cut(text, "/")
	firstText, lastText, ok3 := strings.Cut(text, "-")
	first, ok4 := ParseCount(firstText)
	last, ok5 := ParseCount(lastText)
	total, ok6 := int64(-1), true
	if totalText != "*" {
		total, ok6 = ParseCount(totalText)
	}
	if !ok1 || !ok2 || !ok3 || !ok4 || !ok5 || !ok6 {
		return 0, 0, 0, ErrContentRange
	}
	return first, last, total, nil
}

// ParseCount parses decimal digits, and nothing else.
func ParseCount(text string) (n int64, ok bool) {
	u, err := strconv.ParseUint(text, 10, 63)
	return int64(u), err == nil
}

// Fill reads length bytes, which fit, into bufs, one after the other, and returns how many it has
// read. If the body ends before, the error is io.EOF or io.ErrUnexpectedEOF.
func Fill(body io.Reader, length int64, bufs [][]byte) (int, error) {
	total := 0
	for _, b := range bufs {
		b = b[:min(int64(len(b)), length-int64(total))]
		n, err := io.ReadFull(body, b)
		total += n
		if err != nil {
			return total, err
		}
	}
	return total, nil
}
