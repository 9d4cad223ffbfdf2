package main

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"spillway/decode"
	"spillway/decode/fleet"
	"spillway/decode/grid/dir"
	"spillway/decode/upload"
	"spillway/spool"
)

const (
	demoSize    = 64 << 20 // bytes of the sample file
	demoK       = 3
	demoN       = 10
	demoMissing = 7 // servers that the demo loses: what is left cannot be read without decoding
)

type demoCmd struct {
	Listen string `default:"127.0.0.1:8080" env:"-" help:"Address for downloads; the next free port if it is taken."`
}

func (c *demoCmd) Run(ctx context.Context, std streams, log *slog.Logger) (err error) {
	temp, err := os.MkdirTemp("", "spillway-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(temp)) }()

	fmt.Fprintf(std.out, "Making a grid of %d storage servers in %s\n", demoN, temp)
	servers := make([]fleet.Server, demoN)
	dirs := make([]string, demoN)
	for i := range servers {
		dirs[i] = filepath.Join(temp, fmt.Sprintf("server-%d", i))
		if err := os.Mkdir(dirs[i], 0o700); err != nil {
			return err
		}
		servers[i].Server = dir.New(dirs[i])
	}
	members, err := fleet.New(fleet.Config{Servers: servers, Log: log})
	if err != nil {
		return err
	}
	defer members.Close()
	client, err := decode.New(decode.Config{Fleet: members, Log: log})
	if err != nil {
		return err
	}
	defer client.Close()
	uploader := upload.New(upload.Config{Fleet: members, Log: log})
	defer uploader.Close()

	fmt.Fprintf(std.out, "Uploading a sample file of %v, %d of %d shares needed\n", size(demoSize), demoK, demoN)
	sample := newSample(demoSize)
	uploaded, err := uploader.Put(ctx, sample, upload.Options{K: demoK, N: demoN})
	if err != nil {
		return err
	}
	sum := sha256.New()
	if _, err := sample.Seek(0, io.SeekStart); err != nil {
		return err
	}
	if _, err := io.Copy(sum, sample); err != nil {
		return err
	}
	fmt.Fprintf(std.out, "Losing %d of the servers\n", demoMissing)
	for _, lost := range dirs[:demoMissing] {
		if err := os.RemoveAll(filepath.Join(lost, "shares")); err != nil {
			return err
		}
	}

	public, err := listenNear(c.Listen)
	if err != nil {
		return err
	}
	defer public.Close()
	admin, err := listenNear("127.0.0.1:8081")
	if err != nil {
		return err
	}
	defer admin.Close()
	token := rand.Text()
	g := gateway{
		client: client,
		public: public,
		admin:  admin,
		token:  token,
		spool:  spool.Config{Dir: temp, AllowTmpfs: true, Budget: 1 << 30, Retention: 2 * time.Hour, Log: log},
		ready: func() {
			link := fmt.Sprintf("http://%s/file/%s/@@named=/sample.bin", public.Addr(), url.PathEscape(uploaded.Reveal()))
			fmt.Fprintf(std.out, `
Download it:      %[1]s
SHA-256:          %[2]s
Resume anywhere:  curl -C - -o sample.bin '%[1]s'
                  (interrupt it, run it again: it goes on where it was)
See the spool:    curl -H 'Authorization: Bearer %[3]s' http://%[4]s/admin/spool
Purge it:         curl -X DELETE -H 'Authorization: Bearer %[3]s' http://%[4]s/admin/spool
Admin token:      %[3]s

Serving until interrupted (Ctrl-C), which leaves nothing behind.
`, link, hex.EncodeToString(sum.Sum(nil)), token, admin.Addr())
		},
	}
	return g.serve(ctx, log)
}

// listenNear listens on the address, or on the first free port after it.
func listenNear(address string) (net.Listener, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, usagef("--listen %s: %w", address, err)
	}
	first, err := net.LookupPort("tcp", port)
	if err != nil {
		return nil, usagef("--listen %s: %w", address, err)
	}
	for p := first; ; p++ {
		l, err := net.Listen("tcp", net.JoinHostPort(host, fmt.Sprint(p)))
		if err == nil || p == 65535 || p == first+100 || !errors.Is(err, syscall.EADDRINUSE) {
			return l, err
		}
	}
}

// sample is a file that is made as it is read: an AES-CTR key stream, which no
// encoding step can shorten or mistake for another place of itself.
type sample struct {
	*io.SectionReader
}

func newSample(size int64) sample {
	block, err := aes.NewCipher([]byte("spillway's demo!"))
	if err != nil {
		panic("internal error: " + err.Error())
	}
	return sample{io.NewSectionReader(keyStream{block}, 0, size)}
}

type keyStream struct{ block cipher.Block }

// ReadAt fills p with the key stream from off.
func (k keyStream) ReadAt(p []byte, off int64) (int, error) {
	var iv [aes.BlockSize]byte
	counter := off / aes.BlockSize
	for i := range 8 {
		iv[aes.BlockSize-1-i] = byte(counter >> (8 * i))
	}
	stream := cipher.NewCTR(k.block, iv[:])
	skip := make([]byte, off%aes.BlockSize)
	stream.XORKeyStream(skip, skip)
	clear(p)
	stream.XORKeyStream(p, p)
	return len(p), nil
}
