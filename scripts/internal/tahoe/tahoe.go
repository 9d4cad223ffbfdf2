//go:build linux

// Package tahoe runs a real Tahoe-LAFS grid for measurements: an introducer, storage nodes and
// clients, as scripts/tahoe/grid.py starts them.
package tahoe

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"spillway/scripts/internal/process"
)

// Layout says where the nodes run. The zero value is five storage nodes on 127.0.0.1.
type Layout struct {
	Hosts  []string // addresses: of the introducer, then of each storage node
	Far    string   // the network namespace of all these, a file; "" for the caller's
	Prefix []string // a program and its arguments that start the clients, such as nsenter
	// Foolscap: whether there is a second client, which speaks Foolscap to the storage nodes.
	Foolscap bool
}

// Grid is a running grid. Its Process is all nodes together. It is used by one goroutine.
type Grid struct {
	*process.Process
	Description

	requests, answers *os.File
	lines             *bufio.Reader
}

// Description is what there is in a grid.
type Description struct {
	Client    string `json:"client"`     // the client's node directory
	NodeURL   string `json:"node_url"`   // of the client's web API
	ClientPID int    `json:"client_pid"` // the process
	// FoolscapURL is of the client that speaks Foolscap; "" if there is none.
	FoolscapURL string   `json:"foolscap_url"`
	FoolscapPID int      `json:"foolscap_pid"`
	Storage     []string `json:"storage"` // the storage nodes' storage directories
	PIDs        []int    `json:"pids"`    // the storage nodes' processes
}

// Environment returns the virtual environment in which Tahoe-LAFS is: what SPILLWAY_TAHOE names,
// else where scripts/tahoe/install puts it.
func Environment() (string, error) {
	if dir := os.Getenv("SPILLWAY_TAHOE"); dir != "" {
		return dir, nil
	}
	cache, err := os.UserCacheDir()
	return filepath.Join(cache, "spillway", "tahoe-1.20.0"), err
}

// Start starts a grid whose nodes live in dir, and waits until its clients have connected to every
// storage node. Root is the checkout. The caller closes the grid.
func Start(ctx context.Context, root, dir string, layout Layout) (_ *Grid, err error) {
	environment, err := Environment()
	if err != nil {
		return nil, err
	}
	answers, theirAnswers, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer theirAnswers.Close() // so that the program's end is the end of its answers
	theirRequests, requests, err := os.Pipe()
	if err != nil {
		answers.Close()
		return nil, err
	}
	defer theirRequests.Close()

	// Its standard output goes to a log like any other's; through a shell it answers on descriptor
	// 4.
	args := []string{"-c", `exec python3 "$@" <&3 >&4`, "sh", filepath.Join(root, "scripts", "tahoe", "grid.py"), environment, dir}
	if layout.Hosts != nil {
		args = append(args, "--hosts", strings.Join(layout.Hosts, ","))
	}
	if layout.Far != "" {
		args = append(args, "--far", layout.Far)
	}
	if layout.Foolscap {
		args = append(args, "--foolscap")
	}
	args = append(append(slices.Clone(layout.Prefix), "sh"), args...)
	cmd := exec.Command(args[0], args[1:]...)
	cmd.ExtraFiles = []*os.File{theirRequests, theirAnswers}
	cmd.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1")
	g := &Grid{requests: requests, answers: answers, lines: bufio.NewReader(answers)}
	if g.Process, err = process.Start(dir, cmd); err != nil {
		requests.Close()
		answers.Close()
		return nil, err
	}
	theirAnswers.Close()
	if err := g.hear(ctx); err != nil {
		g.Close()
		return nil, fmt.Errorf("the Tahoe-LAFS grid did not come up: %w", err)
	}
	return g, nil
}

// Close ends all nodes.
func (g *Grid) Close() {
	g.Stop()
	g.requests.Close()
	g.answers.Close()
}

// SpeakFoolscap starts the client anew as one that speaks Foolscap to the storage nodes.
func (g *Grid) SpeakFoolscap(ctx context.Context) error {
	return g.ask(ctx, map[string]any{"k": 3, "happy": 1, "n": 10, "segment": 1 << 20, "layout": 1, "foolscap": true})
}

// Revive starts a storage node again that has been killed, and waits until it is up.
func (g *Grid) Revive(ctx context.Context, server int) error {
	return g.ask(ctx, map[string]any{"start": server})
}

func (g *Grid) ask(ctx context.Context, request map[string]any) error {
	if err := json.NewEncoder(g.requests).Encode(request); err != nil {
		return err
	}
	return g.hear(ctx)
}

func (g *Grid) hear(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { g.answers.Close() })
	defer stop()
	line, err := g.lines.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("%w\n%s", errors.Join(err, ctx.Err()), g.Tail())
	}
	return json.Unmarshal(line, &g.Description)
}

// Address returns the host:port of a client's web API, whose URL that is.
func Address(url string) (string, error) {
	address := strings.TrimSuffix(strings.TrimPrefix(url, "http://"), "/")
	_, _, err := net.SplitHostPort(address)
	return address, err
}

// Link puts every share of the storage directory from into the storage directory to as well: as a
// link, or as a copy on another file system.
func Link(from, to string) error {
	shares, err := filepath.Glob(filepath.Join(from, "shares", "??", "*", "*"))
	if err != nil {
		return err
	}
	for _, share := range shares {
		path, err := filepath.Rel(from, share)
		if err != nil {
			return err
		}
		target := filepath.Join(to, path)
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return err
		}
		if os.Link(share, target) == nil {
			continue
		}
		if out, err := exec.Command("cp", share, target).CombinedOutput(); err != nil {
			return fmt.Errorf("copying a share: %w\n%s", err, out)
		}
	}
	return nil
}
