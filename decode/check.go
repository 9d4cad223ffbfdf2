package decode

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"spillway/decode/caps"
	"spillway/decode/grid"
	"spillway/decode/hashtree"
)

// Report is what a check found.
type Report struct {
	Needed int `json:"needed"` // k
	Total  int `json:"total"`  // n
	// GoodDistinct: share numbers of which one share at least is wholly good.
	GoodDistinct int `json:"good_distinct"`
	// GoodDistinct >= Needed: the file can be read
	Healthy bool            `json:"healthy"`
	Shares  []ShareReport   `json:"shares"` // by number, then server
	Failed  []ServerFailure `json:"failed_servers"`
}

// ShareReport is what a check found of one share on one server.
type ShareReport struct {
	Share    int      `json:"share"`
	Server   string   `json:"server"`
	Good     bool     `json:"good"`
	Problems []string `json:"problems,omitempty"` // each names the part and what is wrong
}

// ServerFailure names a server that did not say which shares it holds.
type ServerFailure struct {
	Server string `json:"server"`
	Error  string `json:"error"`
}

// Check reads every share of a file on every server and verifies all of it: header, UEB, hash
// trees, share hash chain and every block. It takes a verify cap, as that needs no key. What is
// wrong with shares and servers stands in the Report. The error is for what ends the check: a file
// uploaded inconsistently, *MemoryError, the context's.
func (c *Client) Check(ctx context.Context, v caps.Verifier) (Report, error) {
	f, err := c.newFile(v, v.String())
	if err != nil {
		return Report{}, err
	}
	defer f.Close()
	return f.check(ctx)
}

// checkedAtOnce is how many shares are checked side by side, as servers may be far away.
const checkedAtOnce = 8

func (f *File) check(ctx context.Context) (Report, error) {
	ctx, done, err := f.life.Join(ctx)
	if err != nil {
		return Report{}, err
	}
	defer done()
	if err := f.awaitServers(ctx); err != nil {
		return Report{}, err
	}
	shares := f.roster.all()
	r := Report{Needed: f.verifier.K, Total: f.verifier.N, Shares: make([]ShareReport, len(shares)), Failed: []ServerFailure{}}
	for _, e := range f.roster.failures() {
		r.Failed = append(r.Failed, ServerFailure{Server: e.Server, Error: e.Err.Error()})
	}
	if ueb, _ := f.search.result(); ueb != nil {
		if err := f.setCut(ueb); err != nil {
			return Report{}, err
		}
	}
	var g errgroup.Group
	g.SetLimit(checkedAtOnce)
	for i, s := range shares {
		g.Go(func() error {
			var problems []string
			for _, err := range s.check(ctx) {
				problems = append(problems, problemText(err))
				if corrupt := (*CorruptShareError)(nil); errors.As(err, &corrupt) {
					s.report(err) // the log and the server's operator are told as well
				}
			}
			r.Shares[i] = ShareReport{Share: s.num, Server: s.member.String(), Good: len(problems) == 0, Problems: problems}
			return context.Cause(ctx)
		})
	}
	if err := g.Wait(); err != nil {
		return Report{}, err
	}
	slices.SortFunc(r.Shares, func(a, b ShareReport) int {
		return cmp.Or(cmp.Compare(a.Share, b.Share), cmp.Compare(a.Server, b.Server))
	})
	good := map[int]bool{}
	for _, s := range r.Shares {
		if s.Good {
			good[s.Share] = true
		}
	}
	r.GoodDistinct = len(good)
	r.Healthy = r.GoodDistinct >= r.Needed
	return r, nil
}

// awaitServers waits until every server has answered or failed.
func (f *File) awaitServers(ctx context.Context) error {
	f.roster.askRest()
	for {
		rung := f.bell.next()
		if _, err, over := f.search.state(); err != nil || over {
			return err
		}
		select {
		case <-rung:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// problemText says what is wrong without saying again where.
func problemText(err error) string {
	var corrupt *CorruptShareError
	var server grid.ServerError
	switch {
	case errors.As(err, &corrupt) && corrupt.Err != nil:
		return corrupt.Part + ": " + corrupt.Err.Error()
	case errors.As(err, &corrupt):
		return corrupt.Part
	case errors.As(err, &server):
		return server.Err.Error()
	}
	return err.Error()
}

// check verifies all of the share and returns everything that is wrong.
func (s *share) check(ctx context.Context) (problems []error) {
	o, err := s.own(ctx)
	if err != nil {
		return []error{err}
	}
	note := func(err error) {
		if err != nil {
			problems = append(problems, err)
		}
	}
	_, err = o.readUEB(ctx)
	note(err)
	f := s.file
	if f.cut.ueb == nil {
		return problems // without any UEB nothing else can be verified
	}
	note(o.checkTree(ctx, crypttextPart, o.header.CrypttextTree, f.cut.ueb.CrypttextRootHash, nil))
	root, err := o.provenBlockRoot(ctx)
	if err != nil {
		note(err)
		return problems
	}
	note(o.checkTree(ctx, blockTreePart, o.header.BlockTree, root, func(first int64, leaves []hashtree.Hash) error {
		err := o.checkBlocks(ctx, first, leaves)
		note(err)
		return err
	}))
	return problems
}

// errReported ends a walk whose error has been noted.
var errReported = errors.New("reported")

// checkTree verifies every node of a tree of the share and calls visit, if not
// nil, with the leaves of each page, until that returns an error.
func (o *openShare) checkTree(ctx context.Context, part string, off int64, root hashtree.Hash, visit func(first int64, leaves []hashtree.Hash) error) error {
	t := o.file.cut.tree
	walk := func() error {
		roots, err := t.readRoots(ctx, o, off, root)
		if err != nil {
			return err
		}
		if err := o.checkAbove(ctx, off, t.pages, 0, roots); err != nil {
			return err
		}
		for number := range t.pages {
			leaves, err := t.readPage(ctx, o, off, number, roots[number])
			if err != nil {
				return err
			}
			if err := o.checkAbove(ctx, off, t.width, number*t.leaves, leaves); err != nil {
				return err
			}
			if visit != nil && visit(number*t.leaves, leaves) != nil {
				return errReported
			}
		}
		return nil
	}
	switch err := walk(); {
	case err == nil, errors.Is(err, errReported):
		return nil
	default:
		return o.blame(part, err)
	}
}

// checkAbove compares the nodes above a verified run of a level, up to their
// common ancestor, with what the share has. Width is that of the whole level.
func (o *openShare) checkAbove(ctx context.Context, off, width, first int64, level []hashtree.Hash) error {
	level = slices.Clone(level)
	for len(level) > 1 {
		level = hashtree.Parents(level)
		width, first = width/2, first/2
		stored, err := o.readLevel(ctx, off, width, first, int64(len(level)))
		if err != nil {
			return err
		}
		if !slices.Equal(stored, level) {
			return errTree
		}
	}
	return nil
}

// checkBlocks verifies the blocks from first on against their hashes; hashes
// past the last block are ignored.
func (o *openShare) checkBlocks(ctx context.Context, first int64, leaves []hashtree.Hash) error {
	g := o.file.cut.ueb
	hasher := hashtree.NewHasher(hashtree.BlockTag)
	last := min(first+int64(len(leaves)), g.Segments())
	if first >= last {
		return nil
	}
	// Several blocks at once, within what a chunk may take.
	atOnce := min(max(1, min(o.file.cut.memory(1), chunkTarget)/g.BlockSize()), last-first)
	needed := (atOnce-1)*g.BlockSize() + g.BlockLen(first)
	if err := o.file.client.memory.Acquire(ctx, o.file, needed); err != nil {
		return err
	}
	defer o.file.client.memory.Release(o.file, needed)
	buf := make([]byte, needed)
	for i := first; i < last; {
		count := min(atOnce, last-i)
		blocks := buf[:(count-1)*g.BlockSize()+g.BlockLen(i+count-1)]
		if err := o.read(ctx, o.header.Data+i*g.BlockSize(), blocks); err != nil {
			return o.blame(fmt.Sprintf("blocks %d to %d", i, i+count-1), err)
		}
		for range count {
			length := g.BlockLen(i)
			if hasher.Of(blocks[:length]) != leaves[i-first] {
				return o.blame(fmt.Sprintf("block %d", i), errHash)
			}
			blocks = blocks[length:]
			i++
		}
	}
	return nil
}
