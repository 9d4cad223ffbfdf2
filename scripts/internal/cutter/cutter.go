// Package cutter is the bad network between a client and a server: a TCP proxy
// that breaks connections after so many bytes.
package cutter

import (
	"errors"
	"io"
	"net"
	"sync"
	"testing"
)

// Cut says when and how a connection breaks.
type Cut struct {
	After int64 // bytes of the server, response headers included
	Reset bool  // by a reset, else by an orderly end that comes too early
}

// Never lets a connection live.
var Never = Cut{After: -1}

// Proxy relays connections to a server.
type Proxy struct {
	Addr string // where it listens, host:port

	target   string
	plan     func(conn int) Cut
	listener net.Listener
	wg       sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]struct{} // open ones, of both sides; nil once the test ended
	cuts  int
}

// Start starts a proxy to target, a host:port. plan says when connection number
// conn, counted from 0, is cut. The proxy ends with the test.
func Start(tb testing.TB, target string, plan func(conn int) Cut) *Proxy {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	p := &Proxy{Addr: l.Addr().String(), target: target, plan: plan, listener: l, conns: map[net.Conn]struct{}{}}
	p.wg.Go(p.accept)
	tb.Cleanup(p.close)
	return p
}

// Cuts returns how many connections have been cut.
func (p *Proxy) Cuts() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cuts
}

func (p *Proxy) accept() {
	for i := 0; ; i++ {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		cut := p.plan(i)
		p.wg.Go(func() { p.relay(client.(*net.TCPConn), cut) })
	}
}

func (p *Proxy) relay(client *net.TCPConn, cut Cut) {
	defer p.forget(client)
	server, err := net.Dial("tcp", p.target)
	if err != nil {
		client.Close()
		return
	}
	defer p.forget(server)
	if !p.remember(client, server) {
		return
	}

	p.wg.Go(func() {
		io.Copy(server, client)
		// What the client will not ask for any more, the server need not wait for.
		server.(*net.TCPConn).CloseWrite()
	})
	if cut.After < 0 {
		io.Copy(client, server)
		return
	}
	if _, err := io.CopyN(client, server, cut.After); errors.Is(err, io.EOF) {
		return // the answer was shorter: no cut
	}
	p.mu.Lock()
	p.cuts++
	p.mu.Unlock()
	if cut.Reset {
		client.SetLinger(0)
	}
}

// remember keeps connections for close. It returns false if that has happened.
func (p *Proxy) remember(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.conns == nil {
		return false
	}
	for _, c := range conns {
		p.conns[c] = struct{}{}
	}
	return true
}

func (p *Proxy) forget(c net.Conn) {
	c.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
}

func (p *Proxy) close() {
	p.listener.Close()
	p.mu.Lock()
	for c := range p.conns {
		c.Close()
	}
	p.conns = nil
	p.mu.Unlock()
	p.wg.Wait()
}
