package decode

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"spillway/decode/chk"
)

// addLocked adds a share unless it is known.
func (f *File) addLocked(m *member, num int) *share {
	for _, s := range f.shares {
		if s.member == m && s.num == num {
			return s
		}
	}
	s := &share{file: f, member: m, rank: slices.Index(f.members, m), num: num}
	f.shares = append(f.shares, s)
	f.order = nil
	return s
}

// discover asks the servers and waits until enough distinct shares are known
// and the UEB is verified.
func (f *File) discover(ctx context.Context, enough int) error {
	ctx, done, err := f.join(ctx)
	if err != nil {
		return err
	}
	defer done()
	f.askServers()
	for {
		f.mu.Lock()
		changed, err := f.changed, f.fatal
		ready := f.found != nil && f.distinctLocked() >= enough
		over := f.opening == 0
		f.mu.Unlock()
		switch {
		case err != nil:
			return err
		case ready:
			return nil
		case over:
			return f.notEnough(func(s *share) bool { return s.corrupt != nil || s.failure != nil })
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// distinctLocked counts the share numbers that are there.
func (f *File) distinctLocked() int {
	var known [MaxShares]bool
	count := 0
	for _, s := range f.shares {
		if !s.gone && !known[s.num] {
			known[s.num] = true
			count++
		}
	}
	return count
}

// moreToCome tells whether shares that are not known yet may become known. Servers that
// have not been asked, because shares were remembered or the servers are new, are asked now.
func (f *File) moreToCome() bool {
	f.askServers()
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.listing > 0
}

// askServers asks every server, once in the life of the File, in goroutines of the File.
func (f *File) askServers() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return
	}
	f.members = f.client.useMore(f.members)
	f.listing += len(f.members) - f.asked
	f.opening += len(f.members) - f.asked
	for _, m := range f.members[f.asked:] {
		f.work.Go(func() {
			shares := f.list(f.ctx, m)
			f.seekUEB(f.ctx, shares)
			f.mu.Lock()
			f.opening--
			f.notifyLocked()
			f.mu.Unlock()
		})
	}
	f.asked = len(f.members)
}

// list asks one server for its shares.
func (f *File) list(ctx context.Context, m *member) []*share {
	ctx, cancel := context.WithTimeoutCause(ctx, f.client.timeout, errTimeout)
	defer cancel()
	nums, err := m.Shares(ctx, f.cap.index)
	err = timeoutCause(ctx, err)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.listing--
	f.notifyLocked()
	if err != nil {
		if f.ctx.Err() == nil {
			f.failed = append(f.failed, ServerError{Server: m.String(), Err: err})
			f.client.serverErrors.Add(1)
			f.client.log.Warn("server failed", "file", f.id, "server", m.String(), "error", err.Error())
		}
		return nil
	}
	var shares []*share
	for _, num := range nums {
		if num >= 0 && num < f.cap.n {
			shares = append(shares, f.addLocked(m, num))
		}
	}
	return shares
}

// seekUEB reads the UEB from one of the shares of a server unless it has been
// verified meanwhile.
func (f *File) seekUEB(ctx context.Context, shares []*share) {
	for _, s := range shares {
		f.mu.Lock()
		over := f.found != nil || f.fatal != nil
		f.mu.Unlock()
		if over || ctx.Err() != nil {
			return
		}
		o, err := s.open(ctx)
		var text []byte
		if err == nil {
			text, err = o.readUEB(ctx)
		}
		if err != nil {
			if ctx.Err() == nil {
				s.report(err)
			}
			continue
		}
		ueb, err := chk.ParseUEB(text, f.cap.size, f.cap.k, f.cap.n)
		f.mu.Lock()
		if err != nil {
			f.fatal = fmt.Errorf("decode: the file was uploaded inconsistently: %s", strings.TrimPrefix(err.Error(), "chk: "))
		} else if f.found == nil {
			f.found = ueb
		}
		f.notifyLocked()
		f.mu.Unlock()
	}
}
