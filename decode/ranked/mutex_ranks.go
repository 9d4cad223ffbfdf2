//go:build ranks

package ranked

import (
	"bytes"
	"fmt"
	"runtime"
	"strconv"
	"sync"
)

// Mutex is a sync.Mutex that panics when it is taken out of order.
type Mutex[R Rank] struct{ mu sync.Mutex }

// held has the ranks of the locks that each goroutine holds, in the order in which it took them.
var held = struct {
	sync.Mutex
	of map[int64][]Rank
}{of: map[int64][]Rank{}}

// Lock locks m, or panics if the goroutine holds a lock of the same rank or a later one.
func (m *Mutex[R]) Lock() {
	var mine R
	id := goroutine()
	place, name := mine.rank()
	held.Lock()
	for _, other := range held.of[id] {
		if at, otherName := other.rank(); at >= place {
			held.Unlock()
			panic(fmt.Sprintf("internal error: lock %s is taken while %s is held", name, otherName))
		}
	}
	held.of[id] = append(held.of[id], mine)
	held.Unlock()
	m.mu.Lock()
}

// Unlock unlocks m.
func (m *Mutex[R]) Unlock() {
	m.mu.Unlock()
	var mine R
	place, _ := mine.rank()
	id := goroutine()
	held.Lock()
	defer held.Unlock()
	ranks := held.of[id]
	for i := len(ranks) - 1; i >= 0; i-- {
		if at, _ := ranks[i].rank(); at == place {
			ranks = append(ranks[:i], ranks[i+1:]...)
			break
		}
	}
	if len(ranks) == 0 {
		delete(held.of, id)
		return
	}
	held.of[id] = ranks
}

// goroutine returns the number of the calling goroutine, which the runtime tells only in a
// stack's first line: "goroutine 17 [running]:".
func goroutine() int64 {
	var line [64]byte
	text, _ := bytes.CutPrefix(line[:runtime.Stack(line[:], false)], []byte("goroutine "))
	number, _, _ := bytes.Cut(text, []byte(" "))
	id, err := strconv.ParseInt(string(number), 10, 64)
	if err != nil {
		panic("internal error: the runtime names goroutines in another way: " + err.Error())
	}
	return id
}
