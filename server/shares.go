package server

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"spillway/decode"
	"spillway/decode/grid"
)

// maxNamed is how many servers of a kind are named; of more, the number is told.
const maxNamed = 20

// statusOf is what was known when there were too few shares.
func statusOf(err *decode.NotEnoughSharesError) decode.Status {
	return decode.Status{Needed: err.Needed, Total: err.Total, Found: err.Found, Bad: err.Bad, Failed: err.Failed}
}

// sharesText says what is known of a file's shares, to people:
//
//	3 of 10 shares needed; have 2: attic (share 1), cellar (share 4); corrupt: loft (share 7);
//	barn timed out 12 s ago, shed answered 401; waiting for tower for 3 s
func sharesText(st decode.Status, now time.Time) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d of %d shares needed; have ", st.Needed, st.Total)
	nums := map[int]bool{}
	for _, p := range st.Found {
		nums[p.Share] = true
	}
	if len(nums) == 0 {
		b.WriteString("none")
	} else {
		fmt.Fprintf(&b, "%d: %s", len(nums), placesText(st.Found))
	}
	if len(st.Bad) > 0 {
		b.WriteString("; corrupt: " + placesText(st.Bad))
	}
	if len(st.Failed) > 0 {
		b.WriteString("; " + failedText(st.Failed, now))
	}
	if len(st.Waiting) > 0 {
		var names []string
		for _, w := range st.Waiting {
			names = append(names, publicName(w.Server)+" for "+agoText(now.Sub(w.Since)))
		}
		b.WriteString("; waiting for " + listText(names))
	}
	return b.String()
}

// placesText lists servers in the order of their names, each with its shares.
func placesText(places []grid.SharePlace) string {
	places = slices.Clone(places)
	slices.SortFunc(places, func(a, b grid.SharePlace) int {
		return cmp.Or(cmp.Compare(a.Server, b.Server), cmp.Compare(a.Share, b.Share))
	})
	places = slices.Compact(places)
	var names []string
	for len(places) > 0 {
		server := places[0].Server
		var nums []string
		for len(places) > 0 && places[0].Server == server {
			nums = append(nums, strconv.Itoa(places[0].Share))
			places = places[1:]
		}
		what := "share "
		if len(nums) > 1 {
			what = "shares "
		}
		names = append(names, publicName(server)+" ("+what+strings.Join(nums, ", ")+")")
	}
	return listText(names)
}

// failedText lists servers in the order of their names, each with its last failure.
func failedText(failed []grid.ServerError, now time.Time) string {
	failed = slices.Clone(failed)
	slices.SortStableFunc(failed, func(a, b grid.ServerError) int {
		return cmp.Or(cmp.Compare(a.Server, b.Server), b.When.Compare(a.When))
	})
	failed = slices.CompactFunc(failed, func(a, b grid.ServerError) bool { return a.Server == b.Server })
	var names []string
	for _, e := range failed {
		name := publicName(e.Server) + " " + e.Brief()
		if !e.When.IsZero() {
			name += " " + agoText(now.Sub(e.When)) + " ago"
		}
		names = append(names, name)
	}
	return listText(names)
}

func listText(names []string) string {
	if more := len(names) - maxNamed; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:maxNamed], ", "), more)
	}
	return strings.Join(names, ", ")
}

// publicName is what readers may know of a server's name: where this machine keeps its
// directories is none of their business.
func publicName(server string) string {
	if dir, ok := strings.CutPrefix(server, "file://"); ok {
		return path.Base(dir)
	}
	return server
}

// agoText is a duration in its greatest unit, rounded down.
func agoText(d time.Duration) string {
	switch d = max(d, 0); {
	case d >= 48*time.Hour:
		return strconv.Itoa(int(d/(24*time.Hour))) + " days"
	case d >= 2*time.Hour:
		return strconv.Itoa(int(d/time.Hour)) + " hours"
	case d >= 2*time.Minute:
		return strconv.Itoa(int(d/time.Minute)) + " min"
	}
	return strconv.Itoa(int(d/time.Second)) + " s"
}
