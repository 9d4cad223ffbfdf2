//go:build linux

package distance_test

import (
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"spillway/scripts/internal/distance"
	"spillway/scripts/need"
)

// BenchmarkNetwork is one connection that sends all the time: how fast the network is at most,
// without programs at its ends that do anything else.
func BenchmarkNetwork(b *testing.B) {
	need.Namespaces(b)
	const size = 1 << 20
	for _, link := range []distance.Link{{}, {Delay: 10 * time.Millisecond}, {Loss: 0.001}, {Rate: 100e6}} {
		b.Run(fmt.Sprintf("%v,loss=%v,rate=%v", link.Delay, link.Loss, link.Rate), func(b *testing.B) {
			n, err := distance.Open(1)
			if err != nil {
				b.Fatal(err)
			}
			defer n.Close()
			n.SetLink(0, link)
			var listener net.Listener
			if err := n.Far.Do(func() (err error) {
				listener, err = net.Listen("tcp", net.JoinHostPort(distance.Address(0).String(), "0"))
				return err
			}); err != nil {
				b.Fatal(err)
			}
			defer listener.Close()
			go func() {
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				defer conn.Close()
				for buf := make([]byte, size); err == nil; {
					_, err = conn.Write(buf)
				}
			}()
			var conn net.Conn
			if err := n.Near.Do(func() (err error) {
				conn, err = net.Dial("tcp", listener.Addr().String())
				return err
			}); err != nil {
				b.Fatal(err)
			}
			defer conn.Close()
			b.SetBytes(size)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := io.CopyN(io.Discard, conn, size); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
