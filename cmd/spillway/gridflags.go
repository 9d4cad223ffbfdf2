package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"spillway/decode"
	"spillway/decode/caps"
	"spillway/decode/fleet"
	"spillway/decode/grid/kinds"
)

// serverFlags say where shares are.
type serverFlags struct {
	Server []string `placeholder:"URL" sep:" " help:"Storage server, file:///path/to/storage, pb://KEY@HOST:PORT/SWISSNUM#v=1 or s3://BUCKET/PREFIX; give one flag for each."`
	Grid   string   `placeholder:"FILE" type:"path" help:"YAML file of storage servers, as 'spillway grid import' writes it."`
}

// servers returns the servers of the flags, those of the grid file last. It can be called
// again, to see what has become of the file.
func (f *serverFlags) servers(log *slog.Logger) ([]gridServer, error) {
	var servers []gridServer
	for i, text := range f.Server {
		place := fmt.Sprintf("--server number %d", i+1)
		server, err := kinds.Parse(text)
		if err != nil {
			return nil, usagef("%s: %w", place, err)
		}
		servers = append(servers, gridServer{Server: fleet.Server{Server: server, URL: text}, place: place})
	}
	if f.Grid != "" {
		more, err := readGridFile(f.Grid, log)
		if err != nil {
			return nil, &usageError{err}
		}
		servers = append(servers, more...)
	}
	if len(servers) == 0 {
		return nil, usagef("no storage servers: give --server URL for each, or --grid FILE")
	}
	if err := checkDistinct(servers); err != nil {
		return nil, &usageError{err}
	}
	return servers, nil
}

// gridFlags are those of every command that reads or writes shares.
type gridFlags struct {
	serverFlags
	DecodeMemory size `default:"128MiB" help:"Memory for what is being decoded, over all files. Far servers need it to be kept busy."`
}

// fleet returns the servers. The caller closes it.
func (f *serverFlags) fleet(log *slog.Logger) (*fleet.Fleet, error) {
	servers, err := f.servers(log)
	if err != nil {
		return nil, err
	}
	return fleet.New(fleet.Config{Servers: known(servers), Log: log})
}

// reader is a Client with a Fleet of its own.
type reader struct {
	*decode.Client
	fleet *fleet.Fleet
}

// Close closes both.
func (r reader) Close() error { return errors.Join(r.Client.Close(), r.fleet.Close()) }

// reader returns what reads from the servers. The caller closes it.
func (f *gridFlags) reader(log *slog.Logger) (reader, error) {
	members, err := f.fleet(log)
	if err != nil {
		return reader{}, err
	}
	client, err := decode.New(decode.Config{Fleet: members, Memory: int64(f.DecodeMemory), Log: log})
	if err != nil {
		return reader{}, errors.Join(err, members.Close())
	}
	return reader{client, members}, nil
}

// capArg is a cap on the command line, or "-" for one on standard input, where
// other users of the machine cannot see it.
type capArg string

func (a capArg) parse(std streams) (caps.Cap, error) {
	text := string(a)
	if text == "-" {
		// The longest cap is a LIT cap, which holds its file.
		line, err := io.ReadAll(io.LimitReader(std.in, 1<<20))
		if err != nil {
			return caps.Cap{}, fmt.Errorf("reading the cap from standard input: %w", err)
		}
		text = string(line)
	}
	cap, err := caps.Parse(strings.TrimSpace(text))
	if err != nil {
		var unsupported *caps.UnsupportedError
		if errors.As(err, &unsupported) {
			return caps.Cap{}, err
		}
		return caps.Cap{}, &usageError{err}
	}
	return cap, nil
}
