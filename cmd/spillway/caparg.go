package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"spillway/decode/caps"
)

// capArg is a cap on the command line, or "-" for one on standard input, where
// other users of the machine cannot see it.
type capArg string

// maxCap bounds a cap on standard input, in bytes: far more than any has.
const maxCap = 1 << 20

func (a capArg) text(std streams) (string, error) {
	text := string(a)
	if text == "-" {
		line, err := io.ReadAll(io.LimitReader(std.in, maxCap))
		if err != nil {
			return "", fmt.Errorf("reading the cap from standard input: %w", err)
		}
		text = string(line)
	}
	return strings.TrimSpace(text), nil
}

// parse returns the cap, which grants reading.
func (a capArg) parse(std streams) (caps.Cap, error) {
	text, err := a.text(std)
	if err != nil {
		return caps.Cap{}, err
	}
	file, err := caps.Parse(text)
	return file, capError(err)
}

// verifier returns the verify cap that the argument is, or that follows from it. A LIT cap has
// none, as it holds its file itself: then ok is false.
func (a capArg) verifier(std streams) (v caps.Verifier, ok bool, err error) {
	text, err := a.text(std)
	if err != nil {
		return caps.Verifier{}, false, err
	}
	if caps.IsVerifier(text) {
		v, err := caps.ParseVerifier(text)
		return v, true, capError(err)
	}
	file, err := caps.Parse(text)
	if unsupported := (*caps.UnsupportedError)(nil); errors.As(err, &unsupported) {
		// That a verify cap grants no reading is not what is wrong here.
		err = &caps.UnsupportedError{Kind: unsupported.Kind}
	}
	if err != nil {
		return caps.Verifier{}, false, capError(err)
	}
	v, ok = file.Verifier()
	return v, ok, nil
}

// capError makes a usage error of what is no cap at all. One of another kind may well be a cap.
func capError(err error) error {
	if err == nil || errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	return &usageError{err}
}
