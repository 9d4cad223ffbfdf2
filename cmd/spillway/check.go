package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"spillway/decode"
)

type checkCmd struct {
	gridFlags
	JSON bool   `name:"json" env:"-" help:"Print the report as JSON."`
	Cap  capArg `arg:"" help:"The file's cap or verify cap, or - to read it from standard input."`
}

func (c *checkCmd) Run(ctx context.Context, std streams) error {
	silent := slog.New(slog.DiscardHandler) // the report says it all
	file, ok, err := c.Cap.verifier(std)
	if err != nil {
		return err
	}
	members, err := c.fleet(silent)
	if err != nil {
		return err
	}
	defer members.Close()
	client, err := c.client(members, silent)
	if err != nil {
		return err
	}
	defer client.Close()
	report := decode.Report{Healthy: true, Shares: []decode.ShareReport{}, Failed: []decode.ServerFailure{}}
	if ok {
		if report, err = client.Check(ctx, file); err != nil {
			return err
		}
	}
	if c.JSON {
		err = printJSON(std.out, report)
	} else {
		err = printReport(std.out, report)
	}
	if err != nil {
		return err
	}
	if !report.Healthy {
		return fmt.Errorf("not healthy: %d wholly good shares, %d needed", report.GoodDistinct, report.Needed)
	}
	return nil
}

// printReport writes a line for each share, and one that sums up.
func printReport(w io.Writer, r decode.Report) error {
	var b strings.Builder
	for _, s := range r.Shares {
		state := "good"
		if !s.Good {
			state = "BAD: " + cmp.Or(strings.Join(s.Problems, "; "), "unknown")
		}
		fmt.Fprintf(&b, "share %d on %s: %s\n", s.Share, s.Server, state)
	}
	for _, f := range r.Failed {
		fmt.Fprintf(&b, "no answer from %s: %s\n", f.Server, f.Error)
	}
	if r.Total == 0 {
		b.WriteString("the file is in the cap itself\n")
	} else {
		fmt.Fprintf(&b, "%d wholly good shares of %d, %d needed\n", r.GoodDistinct, r.Total, r.Needed)
	}
	_, err := io.WriteString(w, b.String())
	return err
}
