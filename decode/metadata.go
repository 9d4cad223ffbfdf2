package decode

import (
	"strconv"

	"github.com/dgraph-io/ristretto/v2"

	"spillway/decode/chk"
	"spillway/decode/fleet"
	"spillway/decode/hashtree"
)

// metadataCache keeps verified metadata of files after they are closed. Losing
// an entry costs a few requests and nothing else.
type metadataCache struct {
	files *ristretto.Cache[string, cached]
}

// cached is a *fileMetadata or a *page.
type cached interface{ cost() int64 }

// fileMetadata is what a File needs to begin reading without asking a server.
type fileMetadata struct {
	id       string // of the cap
	ueb      *chk.UEB
	unusual  bool            // the shares are not laid out as supposed of that UEB
	roots    []hashtree.Hash // of the crypttext hash tree's pages; nil when not read yet
	places   []place
	askedAll bool // the places are those of all servers
}

// place is a share number and its server.
type place struct {
	member *fleet.Member
	num    int
}

func (m *fileMetadata) cost() int64 {
	return 512 + int64(len(m.roots))*hashtree.Size + int64(len(m.places))*16
}

func (p *page) cost() int64 { return 128 + int64(len(p.leaves))*hashtree.Size }

func newMetadataCache(bytes int64) (*metadataCache, error) {
	files, err := ristretto.NewCache(&ristretto.Config[string, cached]{
		NumCounters: max(1000, bytes/100), // about ten for each small file
		MaxCost:     bytes,
		BufferItems: 64,
	})
	return &metadataCache{files: files}, err
}

func (c *metadataCache) close() { c.files.Close() }

func (c *metadataCache) file(id string) (*fileMetadata, bool) {
	v, _ := c.files.Get(id)
	m, ok := v.(*fileMetadata)
	return m, ok && m.id == id
}

func (c *metadataCache) setFile(m *fileMetadata) { c.files.Set(m.id, m, m.cost()) }

func (c *metadataCache) dropFile(id string) { c.files.Del(id) }

func pageKey(id string, number int64) string { return id + "/" + strconv.FormatInt(number, 10) }

// page returns page number of the file's crypttext hash tree if it is the one under root.
func (c *metadataCache) page(id string, number int64, root hashtree.Hash) (*page, bool) {
	v, _ := c.files.Get(pageKey(id, number))
	p, ok := v.(*page)
	return p, ok && p.number == number && p.root == root
}

func (c *metadataCache) setPage(id string, p *page) {
	c.files.Set(pageKey(id, p.number), p, p.cost())
}
