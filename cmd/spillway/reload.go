package main

import (
	"context"
	"log/slog"
	"os"

	"spillway/decode/fleet"
	"spillway/decode/grid/file"
)

// gridReloads keeps a fleet's servers as its grid file says, while downloads go on.
type gridReloads struct {
	flags   *serverFlags
	fleet   *fleet.Fleet
	servers []file.Server // that the fleet has
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
		err = r.fleet.SetServers(fleetServers(servers))
	}
	if err != nil {
		r.log.Error("grid not reloaded; the servers stay as they were", "error", err.Error())
		return
	}
	added, changed, removed := file.Compare(r.servers, servers)
	r.servers = servers
	r.log.Info("grid reloaded", "servers", len(servers), "added", added, "changed", changed, "removed", removed)
}
