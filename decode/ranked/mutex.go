//go:build !ranks

package ranked

import "sync"

// Mutex is a sync.Mutex that has a place in the order.
type Mutex[R Rank] struct{ sync.Mutex }
