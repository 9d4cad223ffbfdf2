package server_test

import (
	"bytes"
	"fmt"
	"math"
	"mime"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"spillway/server"
	"spillway/spool"
)

func TestParseRange(t *testing.T) {
	many := "bytes=0-0" + strings.Repeat(",0-0", server.MaxRanges)
	for _, test := range []struct {
		field string
		size  int64
		want  string // offsets and ends
		set   fmt.Stringer
	}{
		{"bytes=0-0", 10, "0:1", server.RangeSatisfiable},
		{"bytes=0-9", 10, "0:10", server.RangeSatisfiable},
		{"bytes=0-", 10, "0:10", server.RangeSatisfiable},
		{"bytes=9-", 10, "9:10", server.RangeSatisfiable},
		{"bytes=5-100", 10, "5:10", server.RangeSatisfiable},
		{"bytes=5-99999999999999999999999", 10, "5:10", server.RangeSatisfiable},
		{"bytes=0-9223372036854775807", math.MaxInt64, "0:9223372036854775807", server.RangeSatisfiable},
		{"bytes=-3", 10, "7:10", server.RangeSatisfiable},
		{"bytes=-30", 10, "0:10", server.RangeSatisfiable},
		{"bytes=-99999999999999999999999", 10, "0:10", server.RangeSatisfiable},
		{"bytes=007-08", 10, "7:9", server.RangeSatisfiable},
		{"BYTES=1-2", 10, "1:3", server.RangeSatisfiable},
		{"bytes=0-1,4-5", 10, "0:2 4:6", server.RangeSatisfiable},
		{"bytes=4-5, 0-1 ,\t-2", 10, "4:6 0:2 8:10", server.RangeSatisfiable},
		{"bytes=,0-1,,4-5,", 10, "0:2 4:6", server.RangeSatisfiable},
		{"bytes=0-1,10-11", 10, "0:2", server.RangeSatisfiable},
		{"bytes=0-4,0-4", 10, "0:5 0:5", server.RangeSatisfiable},

		{"bytes=10-", 10, "", server.RangeUnsatisfiable},
		{"bytes=10-20", 10, "", server.RangeUnsatisfiable},
		{"bytes=99999999999999999999999-", 10, "", server.RangeUnsatisfiable},
		{"bytes=-0", 10, "", server.RangeUnsatisfiable},
		{"bytes=10-,20-30", 10, "", server.RangeUnsatisfiable},
		{"bytes=0-", 0, "", server.RangeIgnored},
		{"bytes=0-0", 0, "", server.RangeIgnored},
		{"bytes=-1", 0, "", server.RangeIgnored},

		{"", 10, "", server.RangeIgnored},
		{"bytes", 10, "", server.RangeIgnored},
		{"bytes=", 10, "", server.RangeIgnored},
		{"bytes=,", 10, "", server.RangeIgnored},
		{"bytes=-", 10, "", server.RangeIgnored},
		{"bytes=5", 10, "", server.RangeIgnored},
		{"bytes=5-4", 10, "", server.RangeIgnored},
		{"bytes=a-b", 10, "", server.RangeIgnored},
		{"bytes=+1-2", 10, "", server.RangeIgnored},
		{"bytes=1 -2", 10, "", server.RangeIgnored},
		{"bytes=--2", 10, "", server.RangeIgnored},
		{"bytes=0x1-2", 10, "", server.RangeIgnored},
		{"bytes=0-1;2-3", 10, "", server.RangeIgnored},
		{"bytes=0-1,x", 10, "", server.RangeIgnored},
		{"bytes=20-,x", 10, "", server.RangeIgnored},
		{"seconds=0-1", 10, "", server.RangeIgnored},
		{"bytes=0-9,0-0", 10, "", server.RangeIgnored},
		{"bytes=0-,0-,0-", math.MaxInt64, "", server.RangeIgnored},
		{many, 1000, "", server.RangeIgnored},
	} {
		got, set := server.ParseRange([]string{test.field}, test.size)
		if fmt.Sprint(set) != test.set.String() || extentsText(got) != test.want {
			t.Errorf("%.60q of %d: %v, %v; want %v, %v", test.field, test.size, got, set, test.want, test.set)
		}
	}
	if _, set := server.ParseRange([]string{"bytes=0-0", "bytes=1-1"}, 10); set != server.RangeIgnored {
		t.Errorf("two fields: %v", set)
	}
	if got, set := server.ParseRange([]string{strings.TrimSuffix(many, ",0-0")}, 1000); set != server.RangeSatisfiable || len(got) != server.MaxRanges {
		t.Errorf("the most ranges: %d, %v", len(got), set)
	}
}

func extentsText(extents []spool.Extent) string {
	var text []string
	for _, e := range extents {
		text = append(text, fmt.Sprintf("%d:%d", e.Off, e.End))
	}
	return strings.Join(text, " ")
}

// FuzzParseRange checks what must hold of every field.
func FuzzParseRange(f *testing.F) {
	for _, field := range []string{"bytes=0-0", "bytes=-5", "bytes=5-,1-2", "bytes=0-9223372036854775808", "bytes=9-1", "x=1"} {
		f.Add(field, int64(10))
	}
	f.Fuzz(func(t *testing.T, field string, size int64) {
		if size < 0 {
			return
		}
		extents, set := server.ParseRange([]string{field}, size)
		if (set == server.RangeSatisfiable) != (len(extents) > 0) || len(extents) > server.MaxRanges {
			t.Fatalf("%v with %d extents", set, len(extents))
		}
		total := int64(0)
		for _, e := range extents {
			if e.Off < 0 || e.Off >= e.End || e.End > size {
				t.Fatalf("extent %v of %d", e, size)
			}
			total += e.End - e.Off
		}
		if total > size {
			t.Fatalf("%d bytes of %d", total, size)
		}
	})
}

// The sizes and tag of the differential tests, large enough that the headers
// of the parts never outweigh the file.
const (
	peerSize = 1 << 16
	peerID   = "q5zyxwvutsrqponmlkjihgfedc"
	peerTag  = `"` + peerID + `"`
)

// TestPlanAgreesWithServeContent compares with the standard library where both
// must do the same.
func TestPlanAgreesWithServeContent(t *testing.T) {
	ranges := []string{"", "bytes=0-0", "bytes=0-", "bytes=5-9", "bytes=-7", "bytes=65535-", "bytes=65536-", "bytes=70000-80000",
		"bytes=10-99999", "bytes=0-9,20-29", "bytes=20-29,0-9", "bytes=0-1,-1", "bytes=0-1,70000-", "bytes=70000-,80000-", "bytes=0-65535,0-0"}
	tags := []string{"", peerTag, "W/" + peerTag, `"other"`, "*", `"other", ` + peerTag, `W/"other",W/` + peerTag, `"a","b"`, "unquoted", `"unclosed`}
	ifRanges := []string{"", peerTag, "W/" + peerTag, `"other"`, "Mon, 02 Jan 2006 15:04:05 GMT", "garbage"}
	for _, rng := range ranges {
		for _, match := range tags {
			for _, noneMatch := range tags {
				for _, ifRange := range ifRanges {
					h := http.Header{}
					for name, value := range map[string]string{"Range": rng, "If-Match": match, "If-None-Match": noneMatch, "If-Range": ifRange,
						"If-Modified-Since": "Mon, 02 Jan 2006 15:04:05 GMT", "If-Unmodified-Since": "Mon, 02 Jan 2006 15:04:05 GMT"} {
						if value != "" {
							h.Set(name, value)
						}
					}
					compareWithServeContent(t, h)
				}
			}
		}
	}
}

// tagList matches what If-None-Match may say.
var tagList = regexp.MustCompile(`^(\*|(W/)?"[!#-~]*"([ \t]*,[ \t]*(W/)?"[!#-~]*")*)$`)

func FuzzPlanAgreesWithServeContent(f *testing.F) {
	f.Add(uint16(0), uint16(9), uint16(20), uint16(29), `"x"`, peerTag)
	f.Add(uint16(9), uint16(1), uint16(65535), uint16(65535), "*", "")
	f.Fuzz(func(t *testing.T, a, b, c, d uint16, noneMatch, ifRange string) {
		// The peer takes a malformed "*0" for "*".
		if a > b || c > d || noneMatch != "" && !tagList.MatchString(noneMatch) || ifRange != "" && !tagList.MatchString(ifRange) {
			return
		}
		h := http.Header{"Range": {fmt.Sprintf("bytes=%d-%d,%d-%d", a, b, c, d)}}
		if noneMatch != "" {
			h.Set("If-None-Match", noneMatch)
		}
		if ifRange != "" && !strings.Contains(ifRange, ",") {
			h.Set("If-Range", ifRange)
		}
		if int(b-a)+int(d-c) > peerSize-1000 {
			return // there our part headers count
		}
		compareWithServeContent(t, h)
	})
}

func compareWithServeContent(t *testing.T, h http.Header) {
	t.Helper()
	rec := httptest.NewRecorder()
	rec.Header().Set("ETag", peerTag)
	rec.Header().Set("Content-Type", "application/octet-stream")
	data := make([]byte, peerSize)
	http.ServeContent(rec, &http.Request{Method: "GET", Header: h}, "", time.Time{}, bytes.NewReader(data))
	res := rec.Result()

	status, parts, length := server.Plan(h, peerID, peerSize, "application/octet-stream")
	if status != res.StatusCode {
		t.Fatalf("%v: status %d, the peer's %d", h, status, res.StatusCode)
	}
	if status != 200 && status != 206 {
		return
	}
	var want []string
	switch kind, params, _ := mime.ParseMediaType(res.Header.Get("Content-Type")); {
	case status == 200:
		want = []string{fmt.Sprintf("bytes 0-%d/%d", peerSize-1, peerSize)}
	case kind == "multipart/byteranges":
		r := multipart.NewReader(res.Body, params["boundary"])
		for part, err := r.NextPart(); err == nil; part, err = r.NextPart() {
			want = append(want, part.Header.Get("Content-Range"))
		}
	default:
		want = []string{res.Header.Get("Content-Range")}
	}
	var got []string
	for _, e := range parts {
		got = append(got, fmt.Sprintf("bytes %d-%d/%d", e.Off, e.End-1, peerSize))
	}
	if !slices.Equal(got, want) {
		t.Fatalf("%v: parts %v, the peer's %v", h, got, want)
	}
	if len(parts) == 1 && length != parts[0].End-parts[0].Off {
		t.Fatalf("%v: length %d", h, length)
	}
}
