package decode

import (
	"context"
	"slices"
	"time"
)

// member is a Server of a Client's grid.
type member struct {
	Server
	pace     pace
	requests *allowance

	// Guarded by Client.mu.
	uses    int              // by the Client, by each File and Put, and by who tells it something; at 0 it is closed
	untold  []advice         // what it is still to be told
	telling bool             // a goroutine does so
	advised map[advised]bool // what it was told, or is to be
}

// maxRequests is how many reads of one server are under way at a time, of a slow one fewer: no more than
// it can answer in maxQueue, so that nobody waits for longer who comes next.
const (
	maxRequests = 16
	maxQueue    = 5 * time.Second
)

func newMember(s Server) *member {
	return &member{Server: s, requests: newAllowance(maxRequests), uses: 1}
}

// request is a request to a member under way.
type request struct {
	load  int   // requests under way with it, itself included
	cost  int64 // of the member's requests
	began time.Time
}

// begin waits until f may ask the member for so many bytes; end follows.
func (m *member) begin(ctx context.Context, f *File, bytes int) (request, error) {
	r := request{cost: m.pace.enqueue(bytes)}
	err := m.requests.acquire(ctx, f, r.cost)
	r.load, r.began = m.pace.begin(err == nil), time.Now()
	return r, err
}

// end learns from a request how quick the member is: one that brought bytes, or one that did not
// succeed for whatever reason.
func (m *member) end(f *File, r request, bytes int, ok bool) {
	m.pace.end(r.load, bytes, time.Since(r.began), ok)
	m.requests.release(f, r.cost)
}

// SetServers replaces the servers, in order of preference. Those that were there with the same
// URL, nickname and seed stay, with their connections; the Client closes the others when the last
// File or Put that uses them has ended. Files that are open ask the new servers when
// they need more shares. The Client closes the new servers also when it fails, which it
// does with none at all and when the Client is closed (ErrClosed).
func (c *Client) SetServers(servers []Server) error {
	c.mu.Lock()
	err := c.setServersLocked(&servers)
	c.mu.Unlock()
	c.closeServers(servers)
	return err
}

// closeServers closes servers that nobody uses. What goes wrong with that concerns nobody but the log.
func (c *Client) closeServers(servers []Server) {
	for _, s := range servers {
		if err := s.Close(); err != nil {
			c.log.Warn("closing a server failed", "server", s.String(), "error", err.Error())
		}
	}
}

// setServersLocked leaves in servers what is to be closed.
func (c *Client) setServersLocked(servers *[]Server) error {
	if c.closed {
		return ErrClosed
	}
	if len(*servers) == 0 {
		return errNoServers
	}
	old := slices.Clone(c.members)
	var members []*member
	var unused []Server
	for _, s := range *servers {
		i := slices.IndexFunc(old, func(m *member) bool { return m.same(s) })
		if i < 0 {
			members = append(members, newMember(s))
			continue
		}
		members = append(members, old[i])
		old = slices.Delete(old, i, i+1)
		unused = append(unused, s)
	}
	c.members = members
	*servers = append(unused, c.releaseLocked(old)...)
	return nil
}

// useMore adds to the members in use those that came meanwhile, until release.
func (c *Client) useMore(members []*member) []*member {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.useMoreLocked(members)
}

func (c *Client) useMoreLocked(members []*member) []*member {
	for _, m := range c.members {
		if !slices.Contains(members, m) {
			m.uses++
			members = append(members, m)
		}
	}
	return members
}

// releaseLocked returns those of the members that nobody uses any more, to be closed.
func (c *Client) releaseLocked(members []*member) (unused []Server) {
	for _, m := range members {
		if m.uses--; m.uses == 0 {
			unused = append(unused, m.Server)
		}
	}
	return unused
}

func (c *Client) release(members []*member) {
	c.mu.Lock()
	unused := c.releaseLocked(members)
	c.mu.Unlock()
	c.closeServers(unused)
}
