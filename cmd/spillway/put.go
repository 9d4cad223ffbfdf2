package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base32"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"spillway/decode"
)

type putCmd struct {
	gridFlags
	K               int    `default:"3" help:"Shares needed to read the file, 1 to 256."`
	N               int    `default:"10" help:"Shares made of the file, k to 256."`
	SegmentSize     size   `default:"1MiB" help:"Greatest segment size."`
	ConvergenceFile string `placeholder:"FILE" type:"path" xor:"key" help:"File with the convergence secret, as a node's private/convergence. Without one a secret is made and kept in the user's configuration directory."`
	RandomKey       bool   `xor:"key" help:"Encrypt with a random key: uploading the file again gives another cap."`
	File            string `arg:"" type:"path" help:"File to upload."`
}

func (c *putCmd) Run(ctx context.Context, std streams, log *slog.Logger) error {
	if c.K < 1 || c.N < c.K || c.N > decode.MaxShares {
		return usagef("--k %d and --n %d are not 1 <= k <= n <= %d", c.K, c.N, decode.MaxShares)
	}
	if c.SegmentSize < 1 {
		return usagef("--segment-size must be at least 1")
	}
	file, err := os.Open(c.File)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return usagef("%s is no regular file", c.File)
	}
	opts := decode.PutOptions{K: c.K, N: c.N, SegmentSize: int64(c.SegmentSize)}
	if !c.RandomKey {
		if opts.Convergence, err = c.convergence(); err != nil {
			return err
		}
	}
	client, err := c.client(log)
	if err != nil {
		return err
	}
	defer client.Close()
	bar := newProgress(std.err, "uploading", info.Size())
	opts.Progress = bar.set
	cap, err := client.Put(ctx, file, opts)
	bar.finish()
	if err != nil {
		return fmt.Errorf("uploading %s: %w", c.File, err)
	}
	_, err = fmt.Fprintln(std.out, cap.Reveal())
	return err
}

// convergence returns the secret that makes equal files of one user, and only of
// that user, have equal caps.
func (c *putCmd) convergence() ([]byte, error) {
	if c.ConvergenceFile != "" {
		return readConvergence(c.ConvergenceFile)
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return nil, fmt.Errorf("finding the place of the convergence secret (or give --convergence-file or --random-key): %w", err)
	}
	file := filepath.Join(dir, "spillway", "convergence")
	secret, err := readConvergence(file)
	if !errors.Is(err, fs.ErrNotExist) {
		return secret, err
	}
	secret = make([]byte, 32)
	rand.Read(secret)
	if err := writeSecret(file, base32Lower.EncodeToString(secret)); err != nil {
		return nil, fmt.Errorf("keeping the convergence secret: %w", err)
	}
	return readConvergence(file) // another process may have been faster
}

// base32Lower is Tahoe-LAFS's: RFC 4648's alphabet in lower case, unpadded.
var base32Lower = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

func readConvergence(file string) ([]byte, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading the convergence secret: %w", err)
	}
	secret, err := base32Lower.DecodeString(string(bytes.TrimSpace(text)))
	if err != nil {
		return nil, fmt.Errorf("the convergence secret in %s is not base32 in lower case, as a Tahoe-LAFS node's private/convergence", file)
	}
	return secret, nil
}

// writeSecret writes a file that only its owner can read, whole or not at all,
// and leaves one that is already there.
func writeSecret(file, text string) error {
	dir := filepath.Dir(file)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	temp, err := os.CreateTemp(dir, ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(temp.Name())
	_, err = temp.WriteString(strings.TrimSpace(text) + "\n")
	if err = errors.Join(err, temp.Sync(), temp.Close()); err != nil {
		return err
	}
	if err := os.Link(temp.Name(), file); !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}
