//go:build linux

package sink_test

import (
	"testing"

	"spillway/scripts/internal/sink"
)

func TestCheckHeader(t *testing.T) {
	for _, test := range []struct {
		header string
		wanted int
		length int64
		ok     bool
	}{
		{"HTTP/1.1 200 OK\r\ncontent-length: 12", 200, 12, true},
		{"HTTP/1.1 206 Partial Content\r\nServer: x\r\nContent-Length:7", 206, 7, true},
		{"HTTP/1.1 200 OK\r\nContent-Length: 7", 206, 0, false},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked", 200, 0, false},
		{"HTTP/1.1 200 OK\r\nContent-Length: many", 200, 0, false},
		{"HTTP", 200, 0, false},
	} {
		length, err := sink.CheckHeader([]byte(test.header), test.wanted)
		if length != test.length || (err == nil) != test.ok {
			t.Errorf("%q: got %d, %v", test.header, length, err)
		}
	}
}
