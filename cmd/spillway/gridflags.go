package main

import (
	"fmt"
	"log/slog"

	"spillway/decode"
	"spillway/decode/fleet"
	"spillway/decode/grid/file"
	"spillway/decode/grid/kinds"
)

// serverFlags say where shares are.
type serverFlags struct {
	Server []string `placeholder:"URL" sep:" " help:"Storage server, file:///path/to/storage, pb://KEY@HOST:PORT/SWISSNUM#v=1 or s3://BUCKET/PREFIX; give one flag for each."`
	Grid   string   `placeholder:"FILE" type:"path" help:"YAML file of storage servers, as 'spillway grid import' writes it."`
}

// servers returns the servers of the flags, those of the grid file last. It can be called
// again, to see what has become of the file.
func (f *serverFlags) servers(log *slog.Logger) ([]file.Server, error) {
	var servers []file.Server
	for i, text := range f.Server {
		place := fmt.Sprintf("--server number %d", i+1)
		server, err := kinds.Parse(text)
		if err != nil {
			return nil, usagef("%s: %w", place, err)
		}
		servers = append(servers, file.Server{Server: server, URL: text, Place: place})
	}
	if f.Grid != "" {
		more, err := file.Read(f.Grid, log)
		if err != nil {
			return nil, &usageError{err}
		}
		servers = append(servers, more...)
	}
	if len(servers) == 0 {
		return nil, usagef("no storage servers: give --server URL for each, or --grid FILE")
	}
	if err := file.Distinct(servers); err != nil {
		return nil, &usageError{err}
	}
	return servers, nil
}

// fleetServers returns the servers as a fleet takes them.
func fleetServers(servers []file.Server) []fleet.Server {
	list := make([]fleet.Server, len(servers))
	for i, s := range servers {
		list[i] = fleet.Server{Server: s.Server, Nickname: s.Nickname, Seed: s.Seed, URL: s.URL}
	}
	return list
}

// fleet returns the servers. The caller closes it.
func (f *serverFlags) fleet(log *slog.Logger) (*fleet.Fleet, error) {
	servers, err := f.servers(log)
	if err != nil {
		return nil, err
	}
	return fleet.New(fleet.Config{Servers: fleetServers(servers), Log: log})
}

// gridFlags are those of every command that reads or writes shares.
type gridFlags struct {
	serverFlags
	DecodeMemory size `default:"128MiB" help:"Memory for what is being decoded or encoded, over all files. Far servers need it to be kept busy."`
}

// client returns what reads from the fleet. The caller closes it, before the fleet.
func (f *gridFlags) client(members *fleet.Fleet, log *slog.Logger) (*decode.Client, error) {
	return decode.New(decode.Config{Fleet: members, Memory: int64(f.DecodeMemory), Log: log})
}
