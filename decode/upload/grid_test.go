package upload_test

import (
	"bytes"
	"errors"
	"log/slog"
	"maps"
	"testing"

	"spillway/decode"
	"spillway/decode/caps"
	"spillway/decode/decodetest"
	"spillway/decode/fleet"
	"spillway/decode/grid/gridtest"
	"spillway/decode/upload"
)

// config is a client's.
type config struct {
	Servers []fleet.Server
	Memory  int64
	Log     *slog.Logger
}

// client reads and writes the files of one fleet.
type client struct {
	*decode.Client
	*upload.Uploader
}

// newClient returns a client that is closed at the end of the test.
func newClient(t testing.TB, cfg config) client {
	t.Helper()
	f, err := fleet.New(fleet.Config{Servers: cfg.Servers, Log: cfg.Log})
	if err != nil {
		t.Fatal(err)
	}
	c, err := decode.New(decode.Config{Fleet: f, Memory: cfg.Memory, Log: cfg.Log})
	if err != nil {
		t.Fatal(err)
	}
	u := upload.New(upload.Config{Fleet: f, Memory: cfg.Memory, Log: cfg.Log})
	t.Cleanup(func() {
		if err := errors.Join(u.Close(), c.Close(), f.Close()); err != nil {
			t.Error(err)
		}
	})
	return client{c, u}
}

// put writes a file and returns its cap. Then share i is moved to server i modulo their number, and
// the servers forget that they were asked.
func put(t testing.TB, servers []*gridtest.Faulty, data []byte, opts upload.Options) caps.Cap {
	t.Helper()
	if opts.Convergence == nil {
		opts.Convergence = []byte("secret of the tests")
	}
	c, err := newClient(t, config{Servers: decodetest.Servers(servers)}).Put(t.Context(), bytes.NewReader(data), opts)
	if err != nil {
		t.Fatal(err)
	}
	if _, literal := c.Literal(); literal {
		return c
	}
	si := decodetest.StorageIndex(t, c)
	all := map[int][]byte{}
	for _, s := range servers {
		maps.Copy(all, s.Held[si])
		delete(s.Held, si)
		s.Asked = 0
	}
	gridtest.Place(servers, si, all)
	return c
}
