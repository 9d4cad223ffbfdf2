//go:build linux

package distance

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// packet is what a TUN device with IFF_VNET_HDR reads and writes: a struct virtio_net_hdr, then an
// IP packet.
//
// The header's fields: 0 flags, 1 GSO type, 2 length of the headers, 4 GSO size, 6 start and 8
// offset of the checksum; two bytes each from the third on, in the machine's order. A packet with a
// GSO type is a bundle: its payload is that of several segments of GSO size bytes each, the last
// perhaps shorter.
type packet []byte

const (
	headerLen = 10 // struct virtio_net_hdr

	gsoNone     = 0
	gsoTCP4     = 1
	gsoECN      = 0x80
	protocolTCP = unix.IPPROTO_TCP

	tcpFIN, tcpPSH, tcpCWR = 0x01, 0x08, 0x80
)

// addresses returns source and destination, and false for what is not IPv4.
func (p packet) addresses() (source, destination netip.Addr, ok bool) {
	if len(p) < headerLen+20 || p[headerLen]>>4 != 4 {
		return netip.Addr{}, netip.Addr{}, false
	}
	ip := p[headerLen:]
	return netip.AddrFrom4([4]byte(ip[12:16])), netip.AddrFrom4([4]byte(ip[16:20])), true
}

// size is the length on the wire, with the headers that each segment of a bundle will have.
func (p packet) size() int {
	n := len(p) - headerLen
	if more := p.segments() - 1; more > 0 {
		n += more * (p.payload() - headerLen)
	}
	return n
}

// payload is where the payload of a bundle begins.
func (p packet) payload() int {
	tcp := headerLen + int(p[headerLen]&0x0f)*4
	return tcp + int(p[tcp+12]>>4)*4
}

// segments returns of how many packets on the wire a packet consists.
func (p packet) segments() int {
	each := int(binary.NativeEndian.Uint16(p[4:]))
	if p[1]&^gsoECN != gsoTCP4 || each == 0 || p[headerLen+9] != protocolTCP {
		return 1
	}
	return max(1, (len(p)-p.payload()+each-1)/each)
}

// slice returns the segments from <= i < to of p, a bundle unless that is one segment. It is p
// itself if that is all.
func (p packet) slice(from, to int) packet {
	all := p.segments()
	if from == 0 && to == all {
		return p
	}
	start, each := p.payload(), int(binary.NativeEndian.Uint16(p[4:]))
	body := p[start+from*each : min(start+to*each, len(p))]
	s := make(packet, 0, start+len(body))
	s = append(append(s, p[:start]...), body...)
	if to-from == 1 {
		s[1] = gsoNone
		binary.NativeEndian.PutUint16(s[4:], 0)
	}

	ip := s[headerLen:]
	header := int(ip[0]&0x0f) * 4
	binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
	binary.BigEndian.PutUint16(ip[4:], binary.BigEndian.Uint16(ip[4:])+uint16(from))
	ip[10], ip[11] = 0, 0
	binary.BigEndian.PutUint16(ip[10:], ^fold(sum(0, ip[:header])))

	tcp := ip[header:]
	binary.BigEndian.PutUint32(tcp[4:], binary.BigEndian.Uint32(tcp[4:])+uint32(from*each))
	if from > 0 {
		tcp[13] &^= tcpCWR
	}
	if to < all {
		tcp[13] &^= tcpFIN | tcpPSH
	}
	// Whoever receives a bundle, or a packet with VIRTIO_NET_HDR_F_NEEDS_CSUM, finds the sum of the
	// pseudo header here, to which a device would add the rest.
	pseudo := sum(0, ip[12:20]) + protocolTCP + uint32(len(tcp))
	binary.BigEndian.PutUint16(tcp[16:], fold(pseudo))
	return s
}

// sum adds the Internet checksum of b to total (RFC 1071).
func sum(total uint32, b []byte) uint32 {
	for ; len(b) >= 2; b = b[2:] {
		total += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		total += uint32(b[0]) << 8
	}
	return total
}

func fold(total uint32) uint16 {
	for total>>16 != 0 {
		total = total&0xffff + total>>16
	}
	return uint16(total)
}
