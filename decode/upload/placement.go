package upload

import (
	"cmp"
	"slices"
)

// holder is a server as the placement sees it.
type holder struct {
	holds []int // shares that it has, or is to have
	open  bool  // it takes more shares
}

// happiness is how many servers can each be given a share of its own among those they hold, and how
// many distinct shares there are (docs/specifications/servers-of-happiness.rst).
func happiness(n int, servers []holder) (happy, distinct int) {
	for _, share := range match(n, servers) {
		if share >= 0 {
			happy++
		}
	}
	for _, held := range heldShares(n, servers) {
		if held {
			distinct++
		}
	}
	return happy, distinct
}

func heldShares(n int, servers []holder) []bool {
	held := make([]bool, n)
	for _, s := range servers {
		for _, num := range s.holds {
			held[num] = true
		}
	}
	return held
}

// match returns a maximum matching: for each server one of the shares that it holds, different ones
// for all, or -1. Of servers that take nothing more as many as possible are matched,
// as the others can be given other shares.
func match(n int, servers []holder) []int {
	share, server := make([]int, len(servers)), make([]int, n)
	for i := range share {
		share[i] = -1
	}
	for num := range server {
		server[num] = -1
	}
	// augment finds server i a share, if need be one whose server can take another (Kuhn's
	// algorithm). A server that is matched stays so.
	var seen []bool
	var augment func(i int) bool
	augment = func(i int) bool {
		for _, num := range servers[i].holds {
			if seen[num] {
				continue
			}
			seen[num] = true
			if server[num] < 0 || augment(server[num]) {
				share[i], server[num] = num, i
				return true
			}
		}
		return false
	}
	for _, open := range []bool{false, true} {
		for i, s := range servers {
			if s.open == open {
				seen = make([]bool, n)
				augment(i)
			}
		}
	}
	return share
}

// allot returns which shares each of the servers, in permuted order, is to be given in addition to
// those that it holds: first one to each server that counts for nothing yet, even a copy of a share
// that another one holds, so that as many servers as possible hold shares of their own. What is
// then left goes around again, to the servers with the fewest shares.
func allot(n int, servers []holder) [][]int {
	given := make([][]int, len(servers))
	matched := match(n, servers)
	held := heldShares(n, servers)
	var nowhere, copies []int // shares that no server holds, and those that count for no server
	for num := range n {
		if !held[num] {
			nowhere = append(nowhere, num)
		} else if !slices.Contains(matched, num) {
			copies = append(copies, num)
		}
	}
	var open []int
	for i, s := range servers {
		if !s.open {
			continue
		}
		open = append(open, i)
		if matched[i] >= 0 {
			continue
		}
		from := &nowhere
		if len(nowhere) == 0 {
			from = &copies
		}
		if len(*from) > 0 {
			given[i], *from = append(given[i], (*from)[0]), (*from)[1:]
		}
	}
	if len(open) == 0 {
		return given
	}
	load := func(i int) int { return len(servers[i].holds) + len(given[i]) }
	for _, num := range nowhere {
		// Of several the first one.
		i := slices.MinFunc(open, func(a, b int) int { return cmp.Compare(load(a), load(b)) })
		given[i] = append(given[i], num)
	}
	return given
}
