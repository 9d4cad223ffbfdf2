//go:build ranks

package ranked_test

import (
	"strings"
	"testing"

	"spillway/decode/ranked"
)

// taken returns what the panic says that locking in this order ends in, or "".
func taken(lock ...func()) (said string) {
	defer func() {
		if text, ok := recover().(string); ok {
			said = text
		}
	}()
	for _, l := range lock {
		l()
	}
	return ""
}

func TestOrder(t *testing.T) {
	var roster ranked.Mutex[ranked.Roster]
	var leaf, other ranked.Mutex[ranked.Leaf]
	for name, test := range map[string]struct {
		locks   []func()
		unlocks []func()
		want    string
	}{
		"down the list":       {[]func(){roster.Lock, leaf.Lock}, []func(){leaf.Unlock, roster.Unlock}, ""},
		"one after the other": {[]func(){leaf.Lock, leaf.Unlock, roster.Lock}, []func(){roster.Unlock}, ""},
		"up the list":         {[]func(){leaf.Lock, roster.Lock}, []func(){leaf.Unlock}, "lock Roster is taken while Leaf is held"},
		"two of one line":     {[]func(){leaf.Lock, other.Lock}, []func(){leaf.Unlock}, "lock Leaf is taken while Leaf is held"},
		"twice":               {[]func(){roster.Lock, roster.Lock}, []func(){roster.Unlock}, "lock Roster is taken while Roster is held"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := taken(test.locks...); test.want == "" && got != "" || !strings.Contains(got, test.want) {
				t.Errorf("%q, want %q", got, test.want)
			}
			for _, unlock := range test.unlocks {
				unlock()
			}
			// What others hold is no concern of this goroutine.
			leaf.Lock()
			done := make(chan string)
			go func() { done <- taken(roster.Lock, roster.Unlock) }()
			if got := <-done; got != "" {
				t.Error(got)
			}
			leaf.Unlock()
		})
	}
}
