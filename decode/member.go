package decode

import (
	"errors"
	"slices"
)

// member is a Server of a Client's grid.
type member struct {
	Server
	uses int // by the Client, and by each File and Put; at 0 it is closed; guarded by Client.mu
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
	for _, s := range servers {
		err = errors.Join(err, s.Close())
	}
	return err
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
			members = append(members, &member{Server: s, uses: 1})
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

func (c *Client) release(members []*member) error {
	c.mu.Lock()
	unused := c.releaseLocked(members)
	c.mu.Unlock()
	var err error
	for _, s := range unused {
		err = errors.Join(err, s.Close())
	}
	return err
}
