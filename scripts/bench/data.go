//go:build linux

package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"spillway/scripts/internal/process"
)

// recipe says what files and shares to make.
type recipe struct {
	size    int64 // bytes of each file
	files   int
	k, n    int
	segment int64 // bytes
}

func (r recipe) String() string {
	return fmt.Sprintf("%d-of-%d-%dKiB-segments-%d-x-%d", r.k, r.n, r.segment>>10, r.files, r.size)
}

// placement is which k shares there are.
type placement string

const (
	primary placement = "primary" // shares 0 to k-1, which are the file's own blocks
	parity  placement = "parity"  // shares n-k to n-1: where n >= 2k every block is computed
)

// grid is k shares of some files, each share on a storage server of its own.
type grid struct {
	recipe
	servers []string // storage directories
	caps    []string // one for each file
}

// plain returns the path of a file of so many bytes, which it makes if it is not there yet. Files
// of other numbers have other bytes.
func (l *lab) plain(number int, size int64) (string, error) {
	path := filepath.Join(l.cache, "data", fmt.Sprintf("plain-%d-%d", size, number))
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	return path, writeWhole(path, func(f *os.File) error {
		seed := [32]byte{byte(number), byte(number >> 8)}
		_, err := io.CopyN(f, rand.NewChaCha8(seed), size)
		return err
	})
}

// writeWhole makes a file that exists only when it is complete.
func writeWhole(path string, write func(*os.File) error) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), "incomplete-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	err = errors.Join(write(f), f.Chmod(0o644), f.Close())
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// grid returns shares made by a recipe. They are made, and read back once, if they are not there
// yet; they lie in the page cache afterwards.
func (l *lab) grid(ctx context.Context, r recipe, p placement) (*grid, error) {
	dir := filepath.Join(l.cache, "data", r.String())
	if _, err := os.Stat(dir); err != nil {
		if err := l.makeGrid(ctx, r, dir); err != nil {
			return nil, fmt.Errorf("making %v: %w", r, err)
		}
	}
	caps, err := os.ReadFile(filepath.Join(dir, "caps"))
	if err != nil {
		return nil, err
	}
	servers, err := filepath.Glob(filepath.Join(dir, string(p), "*"))
	if err != nil || len(servers) != r.k {
		return nil, errors.Join(err, fmt.Errorf("%s holds %d servers, want %d: remove it", dir, len(servers), r.k))
	}
	g := &grid{recipe: r, servers: servers, caps: strings.Fields(string(caps))}
	if err := g.warm(); err != nil {
		return nil, err
	}
	return g, nil
}

// warm brings every share into the page cache, which the kernel may have taken it out of.
func (g *grid) warm() error {
	for _, server := range g.servers {
		err := filepath.Walk(server, func(path string, info os.FileInfo, err error) error {
			if err != nil || !info.Mode().IsRegular() {
				return err
			}
			f, err := os.Open(path)
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = io.Copy(struct{ io.Writer }{io.Discard}, f)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (l *lab) makeGrid(ctx context.Context, r recipe, dir string) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	temp, err := os.MkdirTemp(filepath.Dir(dir), "incomplete-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temp)
	all := filepath.Join(temp, "all")
	if err := os.Mkdir(all, 0o755); err != nil {
		return err
	}
	var caps, sums []string
	for i := range r.files {
		path, err := l.plain(i, r.size)
		if err != nil {
			return err
		}
		sum, err := sumFile(path)
		if err != nil {
			return err
		}
		out, err := l.command(ctx, "put", "--random-key", "--server", "file://"+all, "--k", strconv.Itoa(r.k), "--n", strconv.Itoa(r.n),
			"--segment-size", strconv.FormatInt(r.segment, 10), path).Output()
		if err != nil {
			return describeExit(err)
		}
		caps, sums = append(caps, strings.TrimSpace(string(out))), append(sums, sum)
		if r.files > 1 {
			os.Remove(path) // made for this alone
		}
		if err := divide(r, temp, all); err != nil {
			return err
		}
	}
	for _, p := range []placement{primary, parity} {
		servers, err := filepath.Glob(filepath.Join(temp, string(p), "*"))
		if err != nil {
			return err
		}
		// One file is proof enough that the shares lie where they should.
		if err := l.verify(ctx, servers, caps[0], sums[0]); err != nil {
			return fmt.Errorf("reading back from %s shares: %w", p, err)
		}
	}
	if err := os.WriteFile(filepath.Join(temp, "caps"), []byte(strings.Join(caps, "\n")+"\n"), 0o600); err != nil {
		return err
	}
	return errors.Join(os.RemoveAll(all), os.Rename(temp, dir))
}

// divide moves the shares of the directory all to servers of their own, and removes what neither
// placement needs.
func divide(r recipe, dir, all string) error {
	shares, err := filepath.Glob(filepath.Join(all, "shares", "??", "*", "*"))
	if err != nil {
		return err
	}
	for _, share := range shares {
		number, err := strconv.Atoi(filepath.Base(share))
		if err != nil {
			return err
		}
		var p placement
		switch {
		case number < r.k:
			p = primary
		case number >= r.n-r.k:
			p = parity
		default:
			if err := os.Remove(share); err != nil {
				return err
			}
			continue
		}
		path, err := filepath.Rel(all, share)
		if err != nil {
			return err
		}
		target := filepath.Join(dir, string(p), fmt.Sprintf("s%03d", number), path)
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return err
		}
		if err := os.Rename(share, target); err != nil {
			return err
		}
	}
	return os.RemoveAll(filepath.Join(all, "shares"))
}

// verify reads a file and compares its SHA-256.
func (l *lab) verify(ctx context.Context, servers []string, readCap, sum string) error {
	args := []string{"get", "-"}
	for _, s := range servers {
		args = append(args, "--server", "file://"+s)
	}
	cmd := l.command(ctx, args...)
	hash := sha256.New()
	cmd.Stdin, cmd.Stdout = strings.NewReader(readCap+"\n"), hash
	if err := cmd.Run(); err != nil {
		return describeExit(err)
	}
	if fmt.Sprintf("%x", hash.Sum(nil)) != sum {
		return errors.New("the bytes are not the file's")
	}
	return nil
}

// command is one of the commands of Spillway.
func (l *lab) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, l.spillway, args...)
	cmd.Env = process.CleanEnvironment()
	return cmd
}

// describeExit adds what a command wrote to standard error.
func describeExit(err error) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) && len(exit.Stderr) > 0 {
		return fmt.Errorf("%w: %s", err, bytes.TrimSpace(exit.Stderr))
	}
	return err
}

func sumFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	hash := sha256.New()
	_, err = io.Copy(hash, f)
	return fmt.Sprintf("%x", hash.Sum(nil)), err
}
