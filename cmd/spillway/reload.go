package main

import (
	"context"
	"log/slog"
	"os"
	"slices"
	"spillway/decode/fleet"
)

// gridReloads keeps a fleet's servers as its grid file says, while downloads go on.
type gridReloads struct {
	flags   *serverFlags
	fleet   *fleet.Fleet
	servers []gridServer // that the fleet has
	log     *slog.Logger
}

// run reloads at every signal until the context ends.
func (r *gridReloads) run(ctx context.Context, hangups <-chan os.Signal) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangups:
			r.reload()
		}
	}
}

// reload reads the grid file again. If that fails everything stays as it is.
func (r *gridReloads) reload() {
	servers, err := r.flags.servers(r.log)
	if err == nil {
		err = r.fleet.SetServers(known(servers))
	}
	if err != nil {
		r.log.Error("grid not reloaded; the servers stay as they were", "error", err.Error())
		return
	}
	added, changed, removed := compareServers(r.servers, servers)
	r.servers = servers
	r.log.Info("grid reloaded", "servers", len(servers), "added", added, "changed", changed, "removed", removed)
}

// compareServers names the servers that came, that have another URL or seed than before, and that went.
func compareServers(before, after []gridServer) (added, changed, removed []string) {
	added, changed, removed = []string{}, []string{}, []string{} // [], not null, in a log of JSON
	old := map[string]gridServer{}
	for _, s := range before {
		old[s.String()] = s
	}
	for _, s := range after {
		name := s.String()
		o, ok := old[name]
		switch {
		case !ok:
			added = append(added, name)
		case o.URL != s.URL || !slices.Equal(o.Seed, s.Seed):
			changed = append(changed, name)
		}
		delete(old, name)
	}
	for _, s := range before {
		if _, ok := old[s.String()]; ok {
			removed = append(removed, s.String())
		}
	}
	return added, changed, removed
}
