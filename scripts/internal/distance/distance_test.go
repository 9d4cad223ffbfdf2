//go:build linux

package distance_test

import (
	"crypto/sha256"
	"io"
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"spillway/scripts/internal/distance"
	"spillway/scripts/need"
)

// TestNetwork sends bytes from a server to a client over links of every kind.
func TestNetwork(t *testing.T) {
	need.Namespaces(t)
	n, err := distance.Open(1)
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	const server = 3
	var listener net.Listener
	if err := n.Far.Do(func() (err error) {
		listener, err = net.Listen("tcp", net.JoinHostPort(distance.Address(server).String(), "0"))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	const size = 4 << 20
	content := make([]byte, size)
	rand.NewChaCha8([32]byte{}).Read(content)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				conn.Write(content)
			}()
		}
	}()
	for name, link := range map[string]distance.Link{
		"at hand":    {},
		"far":        {Delay: 5 * time.Millisecond},
		"lossy":      {Delay: time.Millisecond, Loss: 0.02},
		"slow":       {Rate: 20e6},
		"everything": {Delay: time.Millisecond, Loss: 0.001, Rate: 20e6},
	} {
		n.SetLink(server, link)
		before := n.Traffic(server)
		start := time.Now()
		var conn net.Conn
		if err := n.Near.Do(func() (err error) {
			conn, err = net.Dial("tcp", listener.Addr().String())
			return err
		}); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		hash := sha256.New()
		_, err := io.Copy(hash, conn)
		conn.Close()
		if err != nil || [32]byte(hash.Sum(nil)) != sha256.Sum256(content) {
			t.Errorf("%s: the bytes are not those that were sent: %v", name, err)
		}
		after := n.Traffic(server)
		if got := after.Bytes - before.Bytes; got < size {
			t.Errorf("%s: %d bytes of traffic, want at least %d", name, got, size)
		}
		if lost := after.Lost - before.Lost; lost > 0 && link.Loss == 0 && link.Rate == 0 || lost == 0 && link.Loss > 0.01 {
			t.Errorf("%s: %d segments lost", name, lost)
		}
		t.Logf("%s: %v, %+v", name, time.Since(start), after)
	}
}
