package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"spillway/decode"
)

// gridFlags say where shares are. Every command that reads or writes them has these.
type gridFlags struct {
	Server       []string `placeholder:"URL" sep:" " help:"Storage server, file:///path/to/storage or pb://KEY@HOST:PORT/SWISSNUM#v=1; give one flag for each."`
	DecodeMemory size     `default:"16MiB" help:"Memory for what is being decoded, over all files."`
}

// client connects to the servers. The caller closes it.
func (f *gridFlags) client(log *slog.Logger) (*decode.Client, error) {
	if len(f.Server) == 0 {
		return nil, usagef("no storage servers: give --server URL for each")
	}
	servers := make([]decode.Server, 0, len(f.Server))
	for i, text := range f.Server {
		server, err := decode.ParseServer(text)
		if err != nil {
			return nil, usagef("--server number %d: %w", i+1, err)
		}
		servers = append(servers, server)
	}
	client, err := decode.New(decode.Config{Servers: servers, Memory: int64(f.DecodeMemory), Log: log})
	if err != nil {
		return nil, fmt.Errorf("connecting to the grid: %w", err)
	}
	return client, nil
}

// capArg is a cap on the command line, or "-" for one on standard input, where
// other users of the machine cannot see it.
type capArg string

func (a capArg) parse(std streams) (decode.Cap, error) {
	text := string(a)
	if text == "-" {
		// The longest cap is a LIT cap, which holds its file.
		line, err := io.ReadAll(io.LimitReader(std.in, 1<<20))
		if err != nil {
			return decode.Cap{}, fmt.Errorf("reading the cap from standard input: %w", err)
		}
		text = string(line)
	}
	cap, err := decode.ParseCap(strings.TrimSpace(text))
	if err != nil {
		var unsupported *decode.UnsupportedCapError
		if errors.As(err, &unsupported) {
			return decode.Cap{}, err
		}
		return decode.Cap{}, &usageError{err}
	}
	return cap, nil
}
