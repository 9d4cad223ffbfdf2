package grid_test

import (
	"encoding/hex"
	"fmt"
	"testing"

	"spillway/decode/grid"
)

// TestLease compares with what Tahoe-LAFS 1.20's hashutil makes of the same input.
func TestLease(t *testing.T) {
	var si grid.StorageIndex
	for i := range si {
		si[i] = byte(1 + i)
	}
	var node grid.NodeID
	for i := range node {
		node[i] = byte(100 + i)
	}
	lease := grid.NewLease([]byte("the lease secret of a client...."), si)
	renew, cancel := lease.Secrets(node)
	if s := hex.EncodeToString(renew[:]); s != "f9103873954958ec2b7e3a439b954707aceda46d8f06192ed7cb56cd771a3b30" {
		t.Errorf("the renewal secret is %s", s)
	}
	if s := hex.EncodeToString(cancel[:]); s != "0a071ced2ec221cabd92d262c9043b48ff648440fc4d478f255a68a8f4dd5585" {
		t.Errorf("the cancel secret is %s", s)
	}
	if s := fmt.Sprintf("%v %+v %s", lease, lease, lease); s != "lease lease lease" {
		t.Errorf("a lease prints as %s", s)
	}
}
