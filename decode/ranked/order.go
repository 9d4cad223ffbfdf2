// Package ranked states the order in which the locks of decode may be taken, and checks it.
//
// Who holds a lock may take only locks that stand further down in the list below, and never two
// of one line. In a build with the tag "ranks", which the tests of `make race` use, a Mutex that
// is taken out of order panics and names both; in all others it is a sync.Mutex and costs nothing
// more.
//
// No lock is held across a request to a server, decoding, or a wait for anything but a lock.
package ranked

// Rank is a place in the order.
type Rank interface {
	rank() (place int, name string)
}

// The order, outermost first. Beside each: what it guards.
type (
	// Roster: which shares are known of one File, and which servers have been asked.
	Roster struct{}
	// Early: the beginnings of shares that are being read before anybody asks for them.
	Early struct{}
	// Client: the open Files of a Client and the chunks that are kept for the next run.
	Client struct{}
	// Fleet: which servers there are, who uses them, what they are still to be told.
	Fleet struct{}
	// Pages: which pages of the crypttext hash tree a File holds or is reading.
	Pages struct{}
	// Once: whether something that is done once for all who want it has begun.
	Once struct{}
	// Lifetime: whether its owner has been closed, so that nothing more may begin.
	Lifetime struct{}
	// Leaf: whatever is held for a few statements that take no other lock. They are the search
	// for the UEB, a File's flow, its decoders and its bell, a server's pace, an allowance.
	Leaf struct{}
)

func (Roster) rank() (int, string)   { return 1, "Roster" }
func (Early) rank() (int, string)    { return 2, "Early" }
func (Client) rank() (int, string)   { return 3, "Client" }
func (Fleet) rank() (int, string)    { return 4, "Fleet" }
func (Pages) rank() (int, string)    { return 5, "Pages" }
func (Once) rank() (int, string)     { return 6, "Once" }
func (Lifetime) rank() (int, string) { return 7, "Lifetime" }
func (Leaf) rank() (int, string)     { return 8, "Leaf" }
