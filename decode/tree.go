package decode

import (
	"context"
	"errors"
	"slices"

	"spillway/decode/chk"
	"spillway/decode/hashtree"
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

// crypttextRoots returns the roots of the pages of the crypttext hash tree,
// read once for all who want them.
func (f *File) crypttextRoots(ctx context.Context) ([]hashtree.Hash, error) {
	return once(ctx, f, &f.roots, func(ctx context.Context) ([]hashtree.Hash, error) {
		return fromAny(ctx, f, func(ctx context.Context, o *openShare) ([]hashtree.Hash, error) {
			roots, err := f.tree.readRoots(ctx, o, o.header.CrypttextTree, f.ueb.CrypttextRootHash)
			if err != nil {
				err = o.blame(crypttextPart, err)
			}
			return roots, err
		})
	})
}

// crypttextPage returns a page of the crypttext hash tree: one of the last few
// used, or from the cache, or read once for all who want it.
func (f *File) crypttextPage(ctx context.Context, number int64) (*page, error) {
	f.mu.Lock()
	if p := f.recentPageLocked(number); p != nil {
		f.mu.Unlock()
		return p, nil
	}
	c := f.pages[number]
	if c == nil {
		c = newCall[*page]()
		err := f.startLocked(func(ctx context.Context) {
			p, err := f.loadPage(ctx, number)
			f.mu.Lock()
			delete(f.pages, number)
			if err == nil {
				f.keepPageLocked(p)
			}
			f.mu.Unlock()
			c.finish(p, err)
		})
		if err != nil {
			f.mu.Unlock()
			return nil, err
		}
		f.pages[number] = c
	}
	f.mu.Unlock()
	return c.wait(ctx)
}

// recentPage returns a page of the crypttext hash tree if it is one of the last few used, or nil.
func (f *File) recentPage(number int64) *page {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.recentPageLocked(number)
}

// keepPageLocked makes p the page used last.
func (f *File) keepPageLocked(p *page) {
	f.recent = append([]*page{p}, f.recent[:min(len(f.recent), recentPages-1)]...)
}

func (f *File) recentPageLocked(number int64) *page {
	for i, p := range f.recent {
		if p.number == number {
			copy(f.recent[1:], f.recent[:i])
			f.recent[0] = p
			return p
		}
	}
	return nil
}

func (f *File) loadPage(ctx context.Context, number int64) (*page, error) {
	roots, err := f.crypttextRoots(ctx)
	if err != nil {
		return nil, err
	}
	root := roots[number]
	if p, ok := f.client.metadata.page(f.id, number, root); ok {
		return p, nil
	}
	leaves, err := fromAny(ctx, f, func(ctx context.Context, o *openShare) ([]hashtree.Hash, error) {
		leaves, err := f.tree.readPage(ctx, o, o.header.CrypttextTree, number, root)
		if err != nil {
			err = o.blame(crypttextPart, err)
		}
		return leaves, err
	})
	if err != nil {
		return nil, err
	}
	p := &page{number: number, root: root, leaves: leaves}
	f.client.metadata.setPage(f.id, p)
	return p, nil
}

// firstPage returns the only page of the crypttext hash tree, if b begins with its leaves and they lead to the root that
// the UEB has. Otherwise it returns nil, which says nothing of where b is from.
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
	t := o.file.tree
	roots, err := t.readRoots(ctx, o, o.header.BlockTree, root)
	if err == nil {
		var leaves []hashtree.Hash
		if leaves, err = t.readPage(ctx, o, o.header.BlockTree, number, roots[number]); err == nil {
			return leaves, nil
		}
	}
	return nil, o.blame(blockTreePart, err)
}
