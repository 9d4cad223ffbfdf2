//go:build linux

package main

import "testing"

func TestWrkSample(t *testing.T) {
	got, err := wrkSample([]byte("Running 2s test\nverdict 1000 66000000 2000000 0\n"), 65536)
	if err != nil || got.Values[0] != 500 || got.Delivered != 65536000 {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, bad := range []string{"", "verdict 1000 66000000 2000000 1\n", "verdict 1000 65535999 2000000 0\n"} {
		if got, err := wrkSample([]byte(bad), 65536); err == nil {
			t.Errorf("%q: got %+v without an error", bad, got)
		}
	}
}
