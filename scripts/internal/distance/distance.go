//go:build linux

// Package distance is a network whose servers are far away: two network namespaces of one machine
// with a link between them that takes time, loses packets and is as slow as it is told to be.
//
// Nothing of the kernel's traffic control is needed. Each namespace has a TUN device; what one
// sends, a forwarder in this process hands to the other when its time has come. The TCP at both
// ends is the kernel's own (CUBIC, buffers as Linux has them by default), so it starts slowly,
// backs off and retransmits as over any other distance.
//
// The devices have the usual MTU of 1500 bytes, and a loss or a rate is one of such packets. To
// pass hundreds of megabytes a second all the same, the forwarder lets the kernel hand it bundles
// of up to 44 segments of one connection (TSO) and passes them on as such; it takes a bundle apart
// where a segment is lost or a slow link would send the segments one after the other.
//
// Namespaces and devices have no name outside of this process and end with it.
package distance

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// The addresses are of the range that RFC 2544 sets aside for measurements.
var (
	nearAddress = netip.AddrFrom4([4]byte{198, 18, 255, 1})
	farPrefix   = netip.MustParsePrefix("198.18.0.0/24")
)

// Servers is how many hosts are far away.
const Servers = 254

// Address returns the address of a server, 0 <= server < Servers.
func Address(server int) netip.Addr {
	if server < 0 || server >= Servers {
		panic(fmt.Sprintf("internal error: server %d of %d", server, Servers))
	}
	return netip.AddrFrom4([4]byte{198, 18, 0, byte(server + 1)})
}

// Network is the two namespaces and what lies between them. Its methods may be called concurrently.
type Network struct {
	Near *Namespace // where clients are
	Far  *Namespace // where servers are, each with an address of its own

	servers [Servers]server
	tuns    [2]*os.File
	lines   [2]*line
	wg      sync.WaitGroup
}

// server is the two ways of a server's link.
type server struct {
	up   way // to the server
	down way // from it
}

// Traffic is what has come from a server since the network was opened.
type Traffic struct {
	Bytes int64 // IP packets that were passed on
	Lost  int64 // segments that were lost, or found no room before a slow link
}

// Open makes a network. Until SetLink is called for a server its link takes no time and loses
// nothing. Which segments are lost follows from the seed and from what is sent. It wants root,
// /dev/net/tun and the program ip.
func Open(seed uint64) (*Network, error) {
	n := &Network{}
	for i := range n.servers {
		n.servers[i].up.random = rand.New(rand.NewPCG(seed, uint64(2*i)))
		n.servers[i].down.random = rand.New(rand.NewPCG(seed, uint64(2*i+1)))
	}
	if err := n.open(); err != nil {
		n.Close()
		return nil, fmt.Errorf("opening a network: %w", err)
	}
	// A device's sender is the other one's receiver.
	for i := range n.tuns {
		n.lines[i] = newLine(func(p packet) {
			// A packet that the device does not take is lost, as on any network.
			_, _ = n.tuns[1-i].Write(p)
		})
		n.wg.Go(n.lines[i].run)
		n.wg.Go(func() { n.forward(n.tuns[i], n.lines[i], i == 0) })
	}
	return n, nil
}

func (n *Network) open() (err error) {
	far := []string{"link set lo up", "link set tun0 up mtu 1500 txqueuelen 10000"}
	for i := range Servers {
		far = append(far, fmt.Sprintf("addr add %v/32 dev tun0", Address(i)))
	}
	// The congestion control is said with the route, as a namespace may not choose every one for
	// all its connections.
	far = append(far, fmt.Sprintf("route add %v dev tun0 congctl cubic", nearAddress))
	near := []string{
		"link set lo up", "link set tun0 up mtu 1500 txqueuelen 10000",
		fmt.Sprintf("addr add %v/32 dev tun0", nearAddress),
		fmt.Sprintf("route add %v dev tun0 src %v congctl cubic", farPrefix, nearAddress),
	}
	if n.Near, err = newNamespace(); err != nil {
		return err
	}
	if n.Far, err = newNamespace(); err != nil {
		return err
	}
	if n.tuns[0], err = setUp(n.Near, near); err != nil {
		return err
	}
	n.tuns[1], err = setUp(n.Far, far)
	return err
}

// sysctls make a namespace's TCP the same whatever the machine's is.
var sysctls = map[string]string{
	"net/ipv4/tcp_rmem": "4096 131072 6291456",
	"net/ipv4/tcp_wmem": "4096 16384 4194304",
	// A connection does not begin with what an earlier one, over another distance, had found out.
	"net/ipv4/tcp_no_metrics_save": "1",
}

// setUp makes the namespace's device and gives it addresses.
func setUp(ns *Namespace, commands []string) (tun *os.File, err error) {
	err = ns.Do(func() error {
		for name, value := range sysctls {
			if err := os.WriteFile("/proc/sys/"+name, []byte(value), 0); err != nil {
				return err
			}
		}
		if tun, err = openTUN(); err != nil {
			return err
		}
		ip := exec.Command("ip", "-batch", "-")
		ip.Stdin = strings.NewReader(strings.Join(commands, "\n") + "\n")
		if out, err := ip.CombinedOutput(); err != nil {
			return fmt.Errorf("ip: %w\n%s", err, out)
		}
		return nil
	})
	return tun, err
}

// openTUN makes a device in the namespace of the calling thread. It ends when it is closed.
func openTUN() (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: "/dev/net/tun", Err: err}
	}
	request, err := unix.NewIfreq("tun0")
	if err != nil {
		panic("internal error: " + err.Error())
	}
	request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("ioctl TUNSETIFF", err)
	}
	if err := unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, unix.TUN_F_CSUM|unix.TUN_F_TSO4); err != nil {
		unix.Close(fd)
		return nil, os.NewSyscallError("ioctl TUNSETOFFLOAD", err)
	}
	// Only now, as a device without its interface cannot be polled.
	return os.NewFile(uintptr(fd), "tun0"), nil
}

// Close ends the forwarder and the devices. Processes in the namespaces stay where they are, alone.
func (n *Network) Close() error {
	var errs []error
	for _, tun := range n.tuns {
		if tun != nil {
			errs = append(errs, tun.Close())
		}
	}
	for _, l := range n.lines {
		if l != nil {
			l.close()
		}
	}
	n.wg.Wait()
	for _, ns := range []*Namespace{n.Near, n.Far} {
		if ns != nil {
			errs = append(errs, ns.file.Close())
		}
	}
	return errors.Join(errs...)
}

// SetLink changes a server's link, both ways, at once and for what is sent from then on.
func (n *Network) SetLink(server int, l Link) {
	s := &n.servers[server]
	s.up.set(l)
	s.down.set(l)
}

// Traffic returns what has come from a server so far.
func (n *Network) Traffic(server int) Traffic {
	return n.servers[server].down.traffic()
}

// forward takes what one device sends and gives it to a line, until the device is closed.
func (n *Network) forward(from *os.File, to *line, up bool) {
	buf := make([]byte, headerLen+1<<16)
	for {
		m, err := from.Read(buf)
		if err != nil {
			if !errors.Is(err, os.ErrClosed) && !errors.Is(err, io.EOF) {
				panic("internal error: reading a TUN device: " + err.Error())
			}
			return
		}
		p := packet(buf[:m])
		source, destination, ok := p.addresses()
		if !ok {
			continue // IPv6's greetings
		}
		remote := source
		if up {
			remote = destination
		}
		host := remote.As4()[3]
		if !farPrefix.Contains(remote) || host == 0 || host > Servers {
			continue
		}
		s := &n.servers[host-1]
		way := &s.down
		if up {
			way = &s.up
		}
		now := time.Now()
		way.admit(now, p, func(due time.Time, p packet) { to.push(now, due, p) })
	}
}
