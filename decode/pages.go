package decode

import (
	"context"
	"errors"
	"slices"

	"spillway/decode/chk"
	"spillway/decode/hashtree"
	"spillway/decode/ranked"
)

// pageLeaves bounds the leaves of a page: 64 KiB of hashes.
const pageLeaves = 2048

// recentPages is how many pages of the crypttext hash tree a File holds.
const recentPages = 4

var errTree = errors.New("it does not lead to its root")

// tree is the shape of a hash tree over a file's segments. It is never held
// whole: it is cut into pages, each the subtree over a run of leaves. The
// pages' roots, one level of the tree, are verified by computing up to the
// tree's root, and a page by computing up to its own.
type tree struct {
	width  int64 // leaves, with padding
	leaves int64 // of a page; a power of two
	pages  int64 // a power of two
}

func newTree(segments int64) tree {
	w := hashtree.Width(segments)
	t := tree{width: w, leaves: min(w, pageLeaves)}
	t.pages = t.width / t.leaves
	return t
}

// page is one verified page of the crypttext hash tree. It does not change.
type page struct {
	number int64
	root   hashtree.Hash
	leaves []hashtree.Hash
}

// readLevel reads nodes from the level of width nodes of a tree that stands at off in the share.
func (o *openShare) readLevel(ctx context.Context, off, width, first, count int64) ([]hashtree.Hash, error) {
	level := make([]hashtree.Hash, count)
	err := o.read(ctx, off+hashtree.LevelOffset(width)+first*hashtree.Size, hashtree.AsBytes(level))
	return level, err
}

// readRoots reads the roots of the pages of the tree at off in the share and
// verifies them against the tree's root.
func (t tree) readRoots(ctx context.Context, o *openShare, off int64, root hashtree.Hash) ([]hashtree.Hash, error) {
	if t.pages == 1 {
		return []hashtree.Hash{root}, nil
	}
	roots, err := o.readLevel(ctx, off, t.pages, 0, t.pages)
	if err == nil && hashtree.Root(slices.Clone(roots)) != root {
		err = errTree
	}
	return roots, err
}

// readPage reads page number of the tree at off in the share and verifies it
// against its root.
func (t tree) readPage(ctx context.Context, o *openShare, off, number int64, root hashtree.Hash) ([]hashtree.Hash, error) {
	leaves, err := o.readLevel(ctx, off, t.width, number*t.leaves, t.leaves)
	if err == nil && hashtree.Root(slices.Clone(leaves)) != root {
		err = errTree
	}
	return leaves, err
}

// pages are the pages of a File's crypttext hash tree: the last few used are held, each is read
// once for all who want it.
type pages struct {
	file  *File
	roots once[[]hashtree.Hash] // of all pages

	mu      ranked.Mutex[ranked.Pages]
	recent  []*page                // guarded by mu; the one used last is the first
	loading map[int64]*call[*page] // guarded by mu
}

// allRoots returns the roots of all pages.
func (p *pages) allRoots(ctx context.Context) ([]hashtree.Hash, error) {
	f := p.file
	return p.roots.do(ctx, f.life, func(ctx context.Context) ([]hashtree.Hash, error) {
		return fromAny(ctx, f, func(ctx context.Context, o *openShare) ([]hashtree.Hash, error) {
			roots, err := f.cut.tree.readRoots(ctx, o, o.header.CrypttextTree, f.cut.ueb.CrypttextRootHash)
			if err != nil {
				err = o.blame(crypttextPart, err)
			}
			return roots, err
		})
	})
}

// get returns a page: one of the last few used, or from the cache, or read once for all who want
// it.
func (p *pages) get(ctx context.Context, number int64) (*page, error) {
	p.mu.Lock()
	if known := p.recentLocked(number); known != nil {
		p.mu.Unlock()
		return known, nil
	}
	c := p.loading[number]
	if c == nil {
		c = newCall[*page]()
		err := p.file.life.Go(func(ctx context.Context) {
			loaded, err := p.load(ctx, number)
			p.mu.Lock()
			delete(p.loading, number)
			if err == nil {
				p.keepLocked(loaded)
			}
			p.mu.Unlock()
			c.finish(loaded, err)
		})
		if err != nil {
			p.mu.Unlock()
			return nil, err
		}
		if p.loading == nil {
			p.loading = map[int64]*call[*page]{}
		}
		p.loading[number] = c
	}
	p.mu.Unlock()
	return c.wait(ctx)
}

// known returns a page if it is one of the last few used, or nil.
func (p *pages) known(number int64) *page {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.recentLocked(number)
}

// keep makes a page the one used last.
func (p *pages) keep(used *page) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keepLocked(used)
}

func (p *pages) keepLocked(used *page) {
	p.recent = append([]*page{used}, p.recent[:min(len(p.recent), recentPages-1)]...)
}

func (p *pages) recentLocked(number int64) *page {
	for i, held := range p.recent {
		if held.number == number {
			copy(p.recent[1:], p.recent[:i])
			p.recent[0] = held
			return held
		}
	}
	return nil
}

func (p *pages) load(ctx context.Context, number int64) (*page, error) {
	f := p.file
	roots, err := p.allRoots(ctx)
	if err != nil {
		return nil, err
	}
	root := roots[number]
	if cached, ok := f.client.metadata.page(f.id, number, root); ok {
		return cached, nil
	}
	leaves, err := fromAny(ctx, f, func(ctx context.Context, o *openShare) ([]hashtree.Hash, error) {
		leaves, err := f.cut.tree.readPage(ctx, o, o.header.CrypttextTree, number, root)
		if err != nil {
			err = o.blame(crypttextPart, err)
		}
		return leaves, err
	})
	if err != nil {
		return nil, err
	}
	loaded := &page{number: number, root: root, leaves: leaves}
	f.client.metadata.setPage(f.id, loaded)
	return loaded, nil
}

// firstPage returns the only page of the crypttext hash tree, if b begins with its leaves and they
// lead to the root that the UEB has. Otherwise it returns nil, which says nothing of where b is
// from.
func firstPage(ueb *chk.UEB, b []byte) *page {
	t := newTree(ueb.Segments())
	if t.pages > 1 || int64(len(b)) < t.leaves*hashtree.Size {
		return nil
	}
	leaves := make([]hashtree.Hash, t.leaves)
	copy(hashtree.AsBytes(leaves), b)
	if hashtree.Root(slices.Clone(leaves)) != ueb.CrypttextRootHash {
		return nil
	}
	return &page{root: ueb.CrypttextRootHash, leaves: leaves}
}

// blockLeaves returns a page of the share's own block hash tree, proven by its
// share hash chain.
func (o *openShare) blockLeaves(ctx context.Context, number int64) ([]hashtree.Hash, error) {
	root, err := o.provenBlockRoot(ctx)
	if err != nil {
		return nil, err
	}
	t := o.file.cut.tree
	roots, err := t.readRoots(ctx, o, o.header.BlockTree, root)
	if err == nil {
		var leaves []hashtree.Hash
		if leaves, err = t.readPage(ctx, o, o.header.BlockTree, number, roots[number]); err == nil {
			return leaves, nil
		}
	}
	return nil, o.blame(blockTreePart, err)
}
