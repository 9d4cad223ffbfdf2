package ranged_test

import (
	"fmt"
	"io"
	"strings"
	"testing"

	"spillway/decode/grid/ranged"
)

func TestParseContentRange(t *testing.T) {
	for text, want := range map[string]string{
		"bytes 0-0/1":      "0 0 1",
		"bytes 10-19/*":    "10 19 -1",
		"bytes 10-19/20":   "10 19 20",
		"bytes 19-10/0":    "19 10 0", // for the caller to see
		"bytes 007-08/010": "7 8 10",
		"bytes 0-9223372036854775807/9223372036854775807": "0 9223372036854775807 9223372036854775807",
	} {
		first, last, total, err := ranged.ParseContentRange(text)
		if got := fmt.Sprint(first, last, total); err != nil || got != want {
			t.Errorf("%q: %s, %v", text, got, err)
		}
	}
	for _, text := range []string{
		"", "bytes", "bytes ", "bytes 10-19", "bytes 10-19/", "bytes /20", "bytes -/", "bytes */20", "bytes 10/20",
		"10-19/20", "lines 10-19/20", "Bytes 10-19/20", "bytes=10-19/20", "bytes  10-19/20", "bytes 10 - 19/20", "bytes 10-19/20 ",
		"bytes -10-19/20", "bytes +10-19/20", "bytes 10-+19/20", "bytes 10-19/-1", "bytes 10-19/+20", "bytes 10-19/**", "bytes 10-19/20/30",
		"bytes 1_0-19/20", "bytes 0x1-19/20", "bytes 10-19-29/30", "bytes 1e1-19/20", "bytes \u0661-19/20",
		"bytes 10-9223372036854775808/*", "bytes 9223372036854775808-10/*", "bytes 10-19/99999999999999999999",
	} {
		if first, last, total, err := ranged.ParseContentRange(text); err == nil || first != 0 || last != 0 || total != 0 {
			t.Errorf("%q: %d %d %d, %v", text, first, last, total, err)
		}
	}
}

func TestFill(t *testing.T) {
	for _, test := range []struct {
		body   string
		length int64
		sizes  []int // of the buffers
		n      int
		err    error
	}{
		{"0123456789", 10, []int{3, 0, 7}, 10, nil},
		{"0123456789", 5, []int{3, 7, 2}, 5, nil},
		{"0123456789", 0, []int{3}, 0, nil},
		{"", 0, nil, 0, nil},
		{"0123", 5, []int{4, 6}, 4, io.EOF},
		{"0123", 6, []int{2, 4}, 4, io.ErrUnexpectedEOF},
		{"", 1, []int{1}, 0, io.EOF},
	} {
		var bufs [][]byte
		for _, size := range test.sizes {
			bufs = append(bufs, make([]byte, size))
		}
		n, err := ranged.Fill(strings.NewReader(test.body), test.length, bufs)
		got := ""
		for _, b := range bufs {
			got += string(b)
		}
		if n != test.n || err != test.err || !strings.HasPrefix(got, test.body[:test.n]) || strings.Trim(got[test.n:], "\x00") != "" {
			t.Errorf("%+v: %d bytes, %v, %q", test, n, err, got)
		}
	}
}
