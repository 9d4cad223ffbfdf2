//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"spillway/decode/caps"
	"spillway/decode/grid"
	"spillway/scripts/internal/compare"
	"spillway/scripts/internal/distance"
	"spillway/scripts/internal/process"
	"spillway/scripts/internal/tahoe"
)

// Any k shares make a file; each storage node holds one. Segments are what Tahoe-LAFS has by
// itself.
const (
	k       = 3
	segment = 1 << 20
)

// scale is how much is measured.
type scale struct {
	rounds int
	nodes  int   // storage nodes, and shares of each file
	large  int64 // bytes of the file that is read at hand
	medium int64 // bytes of the file that is read from far away
	small  int64 // bytes of each of the files whose first byte is measured
	opens  int   // first bytes, or ranges, for a sample
	// cut: after the first byte, a slow download from far away is measured for so long.
	cut time.Duration
}

var (
	fullScale  = scale{rounds: 5, nodes: 10, large: 500e6, medium: 100e6, small: 8e6, opens: 5, cut: 3 * time.Second}
	quickScale = scale{rounds: 1, nodes: 5, large: 100e6, medium: 30e6, small: 4e6, opens: 3, cut: 2 * time.Second}
)

// lab is where measurements are made.
type lab struct {
	scale
	root     string // the checkout
	work     string // of this run alone
	spillway string // the program, built from the checkout

	large, medium *file
	small         []*file  // opens of them, and one more that is read first
	shares        []string // storage directories, each with one share of each file

	current *scene
}

// file is an uploaded file.
type file struct {
	cap  string
	size int64
	si   grid.StorageIndex
}

func (f *file) path() string { return "/uri/" + f.cap }

// openLab builds Spillway and uploads the files. The caller closes the lab.
func openLab(ctx context.Context, s scale) (_ *lab, err error) {
	if err := process.AdoptOrphans(); err != nil {
		return nil, err
	}
	root, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return nil, fmt.Errorf("finding the checkout (run this inside it): %w", err)
	}
	l := &lab{scale: s, root: strings.TrimSpace(string(root))}
	// Not in /tmp, which may be in memory.
	if l.work, err = os.MkdirTemp("/var/tmp", "spillway-grid-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.close())
		}
	}()
	l.spillway = filepath.Join(l.work, "spillway")
	build := exec.CommandContext(ctx, "go", "build", "-o", l.spillway, "./cmd/spillway")
	build.Dir = l.root
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("building spillway: %w\n%s", err, out)
	}
	for i := range s.nodes {
		dir := filepath.Join(l.work, "shares", fmt.Sprintf("s%d", i))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
		l.shares = append(l.shares, dir)
	}
	if l.large, err = l.upload(ctx, 0, l.scale.large); err != nil {
		return nil, err
	}
	if l.medium, err = l.upload(ctx, 1, l.scale.medium); err != nil {
		return nil, err
	}
	for i := range s.opens + 1 {
		f, err := l.upload(ctx, uint64(2+i), s.small)
		if err != nil {
			return nil, err
		}
		l.small = append(l.small, f)
	}
	return l, nil
}

// close ends what runs and removes what was written.
func (l *lab) close() error {
	if l.current != nil {
		l.current.close()
	}
	return os.RemoveAll(l.work)
}

// upload makes a file whose bytes follow from the seed, and shares of it.
func (l *lab) upload(ctx context.Context, seed uint64, size int64) (*file, error) {
	path := filepath.Join(l.work, "plain")
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	defer os.Remove(path)
	_, err = io.CopyN(f, rand.NewChaCha8([32]byte{byte(seed)}), size)
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	args := []string{"put", "--random-key", "--k", strconv.Itoa(k), "--n", strconv.Itoa(l.nodes), "--segment-size", strconv.Itoa(segment)}
	for _, dir := range l.shares {
		args = append(args, "--server", "file://"+dir)
	}
	cmd := exec.CommandContext(ctx, l.spillway, append(args, path)...)
	cmd.Env = process.CleanEnvironment()
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w\n%s", err, exit.Stderr)
		}
		return nil, fmt.Errorf("uploading: %w", err)
	}
	up := &file{cap: strings.TrimSpace(string(out)), size: size}
	readCap, err := caps.Parse(up.cap)
	if err != nil {
		return nil, err
	}
	verify, ok := readCap.Verifier()
	if !ok {
		return nil, errors.New("the file is too small to have shares")
	}
	up.si = verify.StorageIndex
	for _, dir := range l.shares {
		found, err := filepath.Glob(filepath.Join(dir, "shares", "??", up.si.String(), "*"))
		if err != nil || len(found) != 1 {
			return nil, fmt.Errorf("%d shares of a file on one server, want 1: %w", len(found), err)
		}
	}
	return up, nil
}

// machine describes what the figures depend on.
func (l *lab) machine(ctx context.Context) []compare.Fact {
	version := func() string {
		dir, err := tahoe.Environment()
		if err != nil {
			return err.Error()
		}
		out, err := exec.CommandContext(ctx, filepath.Join(dir, "bin", "tahoe"), "--version").Output()
		if err != nil {
			return err.Error()
		}
		line, _, _ := strings.Cut(string(out), "\n")
		return line
	}
	return append(compare.Machine(l.root, l.work),
		compare.Fact{Name: "Tahoe-LAFS", Text: version()},
		compare.Fact{Name: "grid", Text: fmt.Sprintf("%d storage nodes; files are %d-of-%d with segments of %d KiB, one share on each node", l.nodes, k, l.nodes, segment>>10)},
		compare.Fact{Name: "distance", Text: "a TUN device at each end, packets of 1500 bytes handed over in bundles (TSO); CUBIC, receive buffers of 6 MiB and send buffers of 4 MiB at most"},
	)
}

// scene returns the storage nodes and the gateways of Tahoe-LAFS, all on this machine's loopback or
// the nodes far away. It starts them, and ends the other scene, if they do not run yet, or not all
// of them any more.
func (l *lab) scene(ctx context.Context, far bool) (*scene, error) {
	if l.current != nil {
		if (l.current.net != nil) == far && l.current.alive == l.nodes {
			return l.current, nil
		}
		l.current.close()
		l.current = nil
	}
	s, err := l.openScene(ctx, far)
	if err != nil {
		return nil, err
	}
	l.current = s
	return s, nil
}

func (l *lab) openScene(ctx context.Context, far bool) (_ *scene, err error) {
	s := &scene{lab: l, alive: l.nodes}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if s.dir, err = os.MkdirTemp(l.work, "scene-"); err != nil {
		return nil, err
	}
	layout := tahoe.Layout{Foolscap: !far}
	if far {
		if s.net, err = distance.Open(1); err != nil {
			return nil, err
		}
		layout.Far = s.net.Far.Path()
		layout.Hosts = []string{distance.Address(l.nodes).String()}
	} else {
		layout.Hosts = []string{"127.0.0.1"}
	}
	for i := range s.nodes {
		host := layout.Hosts[0]
		if far {
			host = distance.Address(i).String()
		}
		layout.Hosts = append(layout.Hosts, host)
	}
	layout.Prefix = s.prefix()
	if s.grid, err = tahoe.Start(ctx, l.root, s.dir, layout); err != nil {
		return nil, err
	}
	for i, dir := range s.grid.Storage {
		if err := tahoe.Link(l.shares[i], dir); err != nil {
			return nil, err
		}
		url, err := tahoe.URL(dir)
		if err != nil {
			return nil, err
		}
		s.urls = append(s.urls, url)
	}
	for _, g := range s.theirs() {
		if err := s.warm(ctx, g); err != nil {
			return nil, err
		}
	}
	return s, nil
}
