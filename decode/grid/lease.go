package grid

import (
	"strconv"

	"spillway/decode/hashtree"
)

// Lease is what a client presents to have a server keep the shares of one file:
// whoever knows it can renew their leases. It is derived as Tahoe-LAFS's client
// does (src/allmydata/util/hashutil.py), so that a node with the same secret renews the
// leases that Spillway made.
type Lease struct {
	renew, cancel hashtree.Hash // the file's; each server gets hashes of them
}

// The tags under which the secrets are hashed: the client's, a file's, a server's.
const (
	clientRenewal = "allmydata_client_renewal_secret_v1"
	clientCancel  = "allmydata_client_cancel_secret_v1"
	fileRenewal   = "allmydata_file_renewal_secret_v1"
	fileCancel    = "allmydata_file_cancel_secret_v1"
	serverRenewal = "allmydata_bucket_renewal_secret_v1"
	serverCancel  = "allmydata_bucket_cancel_secret_v1"
)

// NewLease returns the Lease of a file for the client that holds the secret, which
// a node keeps in its private/secret.
func NewLease(secret []byte, si StorageIndex) Lease {
	client := func(tag string) []byte {
		h := hashtree.Tagged(hashtree.Tag(secret), []byte(tag))
		return h[:]
	}
	return Lease{
		renew:  pair(fileRenewal, client(clientRenewal), si[:]),
		cancel: pair(fileCancel, client(clientCancel), si[:]),
	}
}

// NodeID names a storage node: the SHA-1 of its certificate in DER, which
// Foolscap calls its tub ID.
type NodeID [20]byte

// Secrets returns what that server is told: with renew it lets the lease be
// renewed; cancel is a relic that servers still ask for.
func (l Lease) Secrets(server NodeID) (renew, cancel [hashtree.Size]byte) {
	return pair(serverRenewal, l.renew[:], server[:]), pair(serverCancel, l.cancel[:], server[:])
}

// String keeps the secrets out of whatever is printed.
func (Lease) String() string { return "lease" }

// pair is Tahoe-LAFS's tagged_pair_hash.
func pair(tag hashtree.Tag, a, b []byte) hashtree.Hash {
	return hashtree.Tagged(tag, appendNetstring(appendNetstring(nil, a), b))
}

func appendNetstring(to, b []byte) []byte {
	to = append(strconv.AppendInt(to, int64(len(b)), 10), ':')
	return append(append(to, b...), ',')
}
