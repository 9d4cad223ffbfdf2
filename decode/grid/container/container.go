// Package container knows how Tahoe-LAFS's storage servers keep an immutable share
// (src/allmydata/storage/{immutable,server}.py): what the container around it looks like, and
// how it is named.
package container

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"spillway/decode/grid"
	"spillway/decode/zfec"
)

// An immutable container:
//
//	0x00  version: 1, or 2 when the lease secrets are hashed   4 bytes, big-endian
//	0x04  length of the share, modulo or capped at 2^32: not trusted
//	0x08  number of leases
//	0x0c  the share
//	then  the leases, 72 bytes each
const (
	HeaderSize = 0x0c            // bytes before the share
	LeaseSize  = 4 + 32 + 32 + 4 // bytes of each lease: owner, two secrets, expiry
	leaseCount = 8               // where the number of leases stands
	version    = 2               // of the containers that are written
	// owner: stands in every lease that Tahoe-LAFS writes; 0 means no owner.
	owner   = 1
	mutable = "Tahoe mutable container v" // begins a container of a mutable file

	// period is how long a server keeps a share whose lease nobody renews
	// (DEFAULT_RENEWAL_TIME in src/allmydata/storage/server.py).
	period = 31 * 24 * time.Hour
)

// Slot returns the directory of the shares of si, with forward slashes:
// <first 2 characters of SI>/<SI>. Below it each share has its number for a name.
func Slot(si grid.StorageIndex) string {
	name := si.String()
	return name[:2] + "/" + name
}

// ParseNumber returns the share number that a name below a slot is. Servers ignore
// what is none.
func ParseNumber(name string) (num int, ok bool) {
	num, err := strconv.Atoi(name)
	return num, err == nil && num >= 0 && num < zfec.MaxShares && strconv.Itoa(num) == name
}

// ShareSize returns the length in bytes of the share in a container of size bytes which begins
// with head, HeaderSize bytes or what there is of them. An error matches grid.ErrCorrupt: the
// container is no immutable one, or holds more leases than bytes.
func ShareSize(head []byte, size int64) (int64, error) {
	head = head[:min(len(head), HeaderSize)]
	if len(head) > 0 && strings.HasPrefix(mutable, string(head)) {
		return 0, fmt.Errorf("%w: a container of a mutable file", grid.ErrCorrupt)
	}
	if len(head) < HeaderSize {
		return 0, fmt.Errorf("%w: the container of %d bytes is too short", grid.ErrCorrupt, size)
	}
	if v := binary.BigEndian.Uint32(head); v != 1 && v != 2 {
		return 0, fmt.Errorf("%w: unknown container version %d", grid.ErrCorrupt, v)
	}
	leases := int64(binary.BigEndian.Uint32(head[leaseCount:]))
	share := size - HeaderSize - LeaseSize*leases
	if share < 0 {
		return 0, fmt.Errorf("%w: %d leases do not fit a container of %d bytes", grid.ErrCorrupt, leases, size)
	}
	return share, nil
}

// Header returns the header of a container with a share of size bytes and so many leases.
func Header(size int64, leases uint32) []byte {
	head := make([]byte, HeaderSize)
	binary.BigEndian.PutUint32(head, version)
	binary.BigEndian.PutUint32(head[4:], uint32(min(size, math.MaxUint32)))
	binary.BigEndian.PutUint32(head[leaseCount:], leases)
	return head
}

// Lease returns the lease of an uploader who will not come back for it:
// random secrets, which the container's version 2 holds hashed, so that the
// hash of nothing known stands there. It lasts for 31 days from now.
func Lease(now time.Time) []byte {
	lease := make([]byte, LeaseSize)
	binary.BigEndian.PutUint32(lease, owner)
	rand.Read(lease[4 : 4+32+32])
	binary.BigEndian.PutUint32(lease[4+32+32:], uint32(now.Add(period).Unix()))
	return lease
}
