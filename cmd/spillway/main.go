// Spillway is a download gateway for Tahoe-LAFS grids. This package parses flags,
// wires the parts together and handles signals.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"
)

// Exit codes of every command.
const (
	exitFailed = 1 // the command ran and did not succeed
	exitUsage  = 2 // the command line, the environment or the configuration file is wrong
)

// cli is the command line; kong reads it. Every flag can also be set by the configuration file and,
// unless it belongs to one call of a command alone, by an environment variable, SPILLWAY_ and the
// flag's name. The command line goes before the environment, and that before the file.
type cli struct {
	Config    kong.ConfigFlag `placeholder:"FILE" help:"YAML file with flags, as 'spool-size: 10GiB', one a line."`
	LogFormat string          `enum:"text,json" default:"text" help:"How the log on standard error is written: text or json."`

	Serve   serveCmd   `cmd:"" help:"Serve downloads over HTTP."`
	Put     putCmd     `cmd:"" help:"Upload a file and print its cap."`
	Get     getCmd     `cmd:"" help:"Download a file without HTTP, or go on with one."`
	Check   checkCmd   `cmd:"" help:"Verify every share of a file."`
	Grid    gridCmd    `cmd:"" help:"Find storage servers and ask whether they are well."`
	Demo    demoCmd    `cmd:"" help:"Show everything on a small grid of its own, until interrupted."`
	Health  healthCmd  `cmd:"" help:"Ask a running gateway whether it is well; for container health checks."`
	Version versionCmd `cmd:"" help:"Print the version."`
}

// streams are the process's own, or a test's.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

func main() {
	coarsenTimers()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	os.Exit(run(ctx, os.Args[1:], streams{os.Stdin, os.Stdout, os.Stderr}))
}

// run runs one command line and returns the exit code.
func run(ctx context.Context, args []string, std streams) (code int) {
	// kong exits in the middle of parsing to print help; that is an unwinding here.
	type exit int
	defer func() {
		switch r := recover().(type) {
		case nil:
		case exit:
			code = int(r)
		default:
			panic(r)
		}
	}()
	var c cli
	parser, err := kong.New(&c,
		kong.Name("spillway"),
		kong.Description("A download gateway for Tahoe-LAFS grids: resumable downloads at the client's own speed, in flat memory."),
		kong.UsageOnError(),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.DefaultEnvars("SPILLWAY"),
		kong.Configuration(loadConfig),
		kong.Writers(std.out, std.err),
		kong.Exit(func(code int) { panic(exit(code)) }),
	)
	if err != nil {
		panic("internal error: " + err.Error())
	}
	parsed, err := parser.Parse(args)
	if err != nil {
		fmt.Fprintf(std.err, "spillway: %s\nTry 'spillway --help'.\n", parseErrorText(err))
		return exitUsage
	}
	parsed.BindTo(ctx, (*context.Context)(nil))
	err = parsed.Run(std, newLog(c.LogFormat, std.err))
	var usage *usageError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &usage):
		fmt.Fprintf(std.err, "spillway: %v\n", err)
		return exitUsage
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		fmt.Fprintln(std.err, "spillway: interrupted")
		return exitFailed
	}
	fmt.Fprintf(std.err, "spillway: %v\n", err)
	return exitFailed
}

// parseErrorText is what is wrong with the command line. An argument that nothing wants
// may be a cap, or a server's URL, and is not repeated.
func parseErrorText(err error) string {
	const unexpected = "unexpected argument"
	text := err.Error()
	if i := strings.Index(text, unexpected); i >= 0 {
		return text[:i] + unexpected
	}
	return text
}

// usageError is a fault of the command line that only the command itself can see.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error {
	return &usageError{fmt.Errorf(format, args...)}
}

// printJSON writes a report for programs.
func printJSON(w io.Writer, report any) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(report)
}

func newLog(format string, w io.Writer) *slog.Logger {
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, nil))
	}
	return slog.New(slog.NewTextHandler(w, nil))
}
