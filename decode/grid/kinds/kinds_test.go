package kinds_test

import (
	"errors"
	"fmt"
	"spillway/decode/grid/kinds"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for text, ok := range map[string]bool{
		"file:///srv/tahoe": true, "file://localhost/srv": true, "file:/srv": true, "file:///a%20b": true,
		"file://host/srv": false, "file:srv": false, "file:///srv?x": false, "file:///srv#x": false, "file://user@/srv": false,
		"/srv": false, "": false, "http://host/": false, "file://%zz": false,
		"s3://bucket": true, "s3://bucket/prefix?endpoint=http://host:1": true, "s3://key:secret@bucket": false, "s3://bucket?key=secret": false,
		"pb://secret@host:1/swiss#v=1": false, "pb://secret@host:1/swiss": false,
		"pb://1WUX44xKjKdpGLohmFcBNuIRN-8rlv1Iij_7rQ-ABCk@a:1,tcp:b:2/secret#v=1": true,
	} {
		s, err := kinds.Parse(text)
		if (err == nil) != ok {
			t.Errorf("%s: %v, %v", text, s, err)
		}
		if unsupported := errors.Is(err, errors.ErrUnsupported); unsupported != (text == "pb://secret@host:1/swiss") {
			t.Errorf("%s: %v", text, err)
		}
		if said := fmt.Sprint(s, err); strings.Contains(said, "secret") {
			t.Errorf("the URL's secret is told: %s", said)
		}
	}
}
