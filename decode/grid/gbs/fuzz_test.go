package gbs_test

import (
	"slices"
	"strings"
	"testing"

	"spillway/decode/grid/gbs"
)

// FuzzParse: what is accepted is accepted again in its own words, and these do
// not hold the swissnum.
func FuzzParse(f *testing.F) {
	const key = "1WUX44xKjKdpGLohmFcBNuIRN-8rlv1Iij_7rQ-ABCk"
	for _, text := range []string{
		"pb://" + key + "@127.0.0.1:123/" + swissnum + "#v=1",
		"pb://" + key + "@tcp:h.example:1,[::1]:65535,b:3/" + swissnum + "#v=1",
		"pb://" + key + "@h:1/" + swissnum,
		"pb+tor://" + key + "@h.onion:1/" + swissnum + "#v=1",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, swissnum, locations, err := gbs.ParseNURL(text)
		if err != nil {
			return
		}
		if len(locations) == 0 || swissnum == "" || strings.ContainsAny(s, "# \n\x00") {
			t.Errorf("%q: %q, %q", text, s, locations)
		}
		again, _, locations2, err := gbs.ParseNURL(s + "/x#v=1")
		if err != nil || again != s || !slices.Equal(locations, locations2) {
			t.Errorf("%q: %q, %q, %v", text, s, again, err)
		}
	})
}

// FuzzAnswers: a set of share numbers is a set of share numbers, and nothing panics.
func FuzzAnswers(f *testing.F) {
	f.Add(gbs.MarshalSet(nil))
	f.Add(gbs.MarshalSet([]int{0, 255, 7}))
	f.Add([]byte("\xa2\x6calready-have\xd9\x01\x02\x80\x69allocated\xd9\x01\x02\x81\x03"))
	f.Add([]byte("\xa1\x68required\x81\xa2\x65begin\x00\x63end\x18\x2a"))
	f.Add([]byte("\xa2\x58\x2fhttp://allmydata.org/tahoe/protocols/storage/v1\xa1\x4favailable-space\xc2\x49\x01\x00\x00\x00\x00\x00\x00\x00\x00\x53application-version\x40"))
	f.Fuzz(func(t *testing.T, b []byte) {
		nums, errs := gbs.UnmarshalAll(b)
		if errs[0] != nil {
			return
		}
		for i, n := range nums {
			if n < 0 || n > 255 || i > 0 && nums[i-1] >= n {
				t.Errorf("%x: %v", b, nums)
			}
		}
	})
}
