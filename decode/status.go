package decode

import (
	"cmp"
	"slices"
	"spillway/decode/grid"
	"time"
)

// Status is what is known of a file's shares at one moment.
type Status struct {
	Needed, Total int                // k and n
	Found         []grid.SharePlace  // shares that may be used, by number
	Bad           []grid.SharePlace  // shares that are corrupt; what is right in them may be used
	Failed        []grid.ServerError // servers that did not answer last
	Waiting       []ServerWait       // servers that have not said yet which shares they hold
}

// ServerWait names a server that has not answered yet.
type ServerWait struct {
	Server string
	Since  time.Time
}

// Status returns what is known of the shares of the file with that Cap.ID, if it is open or being
// opened. A File that remembers its shares knows of no server that it has not asked.
func (c *Client) Status(id string) (st Status, ok bool) {
	c.mu.Lock()
	var files []*File
	for f := range c.files {
		if f.id == id {
			files = append(files, f)
		}
	}
	c.mu.Unlock()
	for _, f := range files {
		// Of several the one that knows most, which has been open for longest.
		if other := f.status(); !ok || len(other.Found) > len(st.Found) {
			st, ok = other, true
		}
	}
	return st, ok
}

func (f *File) status() Status {
	st := Status{Needed: f.verifier.K, Total: f.verifier.N}
	f.roster.status(&st)
	for _, places := range [][]grid.SharePlace{st.Found, st.Bad} {
		slices.SortFunc(places, func(a, b grid.SharePlace) int {
			return cmp.Or(cmp.Compare(a.Share, b.Share), cmp.Compare(a.Server, b.Server))
		})
	}
	return st
}
