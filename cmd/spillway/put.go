package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"spillway/decode/grid"
	"spillway/decode/upload"
	"spillway/decode/zfec"
)

type putCmd struct {
	gridFlags
	K               int    `default:"3" help:"Shares needed to read the file, 1 to 256."`
	N               int    `default:"10" help:"Shares made of the file, k to 256."`
	Happy           *int   `placeholder:"7" help:"Servers that must each hold a share of their own in the end. Without it 7, or the number of shares or of servers if that is less."`
	SegmentSize     size   `default:"1MiB" help:"Greatest segment size."`
	ConvergenceFile string `placeholder:"FILE" type:"path" xor:"key" help:"File with the convergence secret, as a node's private/convergence. Without one a secret is made and kept in the user's configuration directory."`
	RandomKey       bool   `xor:"key" help:"Encrypt with a random key: uploading the file again gives another cap."`
	LeaseSecretFile string `placeholder:"FILE" type:"path" help:"File with the secret by which the leases of the shares can be renewed, as a node's private/secret. Without one a secret is made and kept likewise."`
	File            string `arg:"" type:"path" help:"File to upload."`
}

func (c *putCmd) Run(ctx context.Context, std streams, log *slog.Logger) error {
	if c.K < 1 || c.N < c.K || c.N > zfec.MaxShares {
		return usagef("--k %d and --n %d are not 1 <= k <= n <= %d", c.K, c.N, zfec.MaxShares)
	}
	opts := upload.Options{K: c.K, N: c.N, SegmentSize: int64(c.SegmentSize)}
	if c.Happy != nil {
		if opts.Happy = *c.Happy; opts.Happy < 1 || opts.Happy > c.N {
			return usagef("--happy %d is not 1 to --n %d", opts.Happy, c.N)
		}
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
	if !c.RandomKey {
		if opts.Convergence, err = secret("convergence", c.ConvergenceFile, "convergence-file or --random-key"); err != nil {
			return err
		}
	}
	if opts.LeaseSecret, err = secret("lease", c.LeaseSecretFile, "lease-secret-file"); err != nil {
		return err
	}
	members, err := c.fleet(log)
	if err != nil {
		return err
	}
	defer members.Close()
	uploader := upload.New(upload.Config{Fleet: members, Memory: int64(c.DecodeMemory), Log: log})
	defer uploader.Close()
	bar := newProgress(std.err, "uploading", info.Size())
	opts.Progress = bar.set
	uploaded, err := uploader.Put(ctx, file, opts)
	bar.finish()
	if err != nil {
		return fmt.Errorf("uploading %s: %w", c.File, err)
	}
	_, err = fmt.Fprintln(std.out, uploaded.Reveal())
	return err
}

// secret returns the secret of that name from the file, or from the one in the user's
// configuration directory, which is made when it is first wanted: so equal files
// of one user, and only of that user, have equal caps, and that user renews their leases.
// The flag is what can be given instead.
func secret(name, file, flag string) ([]byte, error) {
	if file != "" {
		return readSecret(name, file)
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return nil, fmt.Errorf("finding the place of the %s secret (or give --%s): %w", name, flag, err)
	}
	file = filepath.Join(dir, "spillway", name)
	kept, err := readSecret(name, file)
	if !errors.Is(err, fs.ErrNotExist) {
		return kept, err
	}
	made := make([]byte, 32)
	rand.Read(made)
	if err := writeSecret(file, grid.Base32(made)); err != nil {
		return nil, fmt.Errorf("keeping the %s secret: %w", name, err)
	}
	return readSecret(name, file) // another process may have been faster
}

func readSecret(name, file string) ([]byte, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading the %s secret: %w", name, err)
	}
	secret, err := grid.ParseBase32(string(bytes.TrimSpace(text)))
	if err != nil {
		return nil, fmt.Errorf("the %s secret in %s is not base32 in lower case, as a Tahoe-LAFS node keeps it in its private directory", name, file)
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
