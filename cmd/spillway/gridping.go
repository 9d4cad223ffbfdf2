package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"spillway/decode/caps"
	"spillway/decode/fleet"
	"spillway/decode/grid"
)

type gridPingCmd struct {
	serverFlags
	Timeout timeout `default:"10s" help:"How long a server may take for all that it is asked."`
	JSON    bool    `name:"json" env:"-" help:"Print the report as JSON."`
	Cap     capArg  `arg:"" optional:"" help:"Cap or verify cap of a file whose shares are asked for, or - to read it from standard input."`
}

func (c *gridPingCmd) Run(ctx context.Context, std streams, log *slog.Logger) error {
	var file *caps.Verifier
	if c.Cap != "" {
		v, ok, err := c.Cap.verifier(std)
		if err != nil {
			return err
		}
		if !ok {
			return usagef("this cap holds its file itself: there are no shares of it")
		}
		file = &v
	}
	servers, err := c.servers(log)
	if err != nil {
		return err
	}
	members, err := fleet.New(fleet.Config{Servers: fleetServers(servers), Timeout: time.Duration(c.Timeout)})
	if err != nil {
		return err
	}
	defer members.Close()
	var index *grid.StorageIndex
	if file != nil {
		index = &file.StorageIndex
	}
	pings, err := members.Ping(ctx, index)
	if err != nil {
		return err
	}
	report := newPingReport(pings, file)
	if c.JSON {
		err = printJSON(std.out, report)
	} else {
		err = report.print(std.out)
	}
	if err != nil {
		return err
	}
	if n := report.Unreachable; n > 0 {
		return fmt.Errorf("%d of %d servers did not answer as they should", n, len(report.Servers))
	}
	return nil
}

// pingReport is what `grid ping --json` prints.
type pingReport struct {
	Servers     []serverPing `json:"servers"`
	Unreachable int          `json:"unreachable"`
	Shares      *sharePing   `json:"shares,omitempty"` // of the file, if a cap is given
}

type serverPing struct {
	Server    string   `json:"server"`
	Reachable bool     `json:"reachable"`
	Error     string   `json:"error,omitempty"`
	LatencyMS *float64 `json:"latency_ms"` // null if it did not answer
	Software  string   `json:"software,omitempty"`
	FreeBytes *int64   `json:"free_bytes"`       // null if it does not tell
	Shares    *[]int   `json:"shares,omitempty"` // the numbers of those that it holds
}

type sharePing struct {
	Distinct int `json:"distinct"`
	Needed   int `json:"needed"`
	Total    int `json:"total"`
}

func newPingReport(pings []fleet.PingResult, file *caps.Verifier) pingReport {
	r := pingReport{Servers: []serverPing{}}
	distinct := map[int]bool{}
	for _, p := range pings {
		s := serverPing{Server: p.Server, Reachable: p.Err == nil, Software: p.Software}
		if p.Err != nil {
			s.Error = strings.ReplaceAll(p.Err.Error(), "\n", "; ") // one for each of its addresses
			r.Unreachable++
		}
		if p.Latency > 0 {
			ms := math.Round(p.Latency.Seconds()*1e6) / 1e3
			s.LatencyMS = &ms
		}
		if p.Free >= 0 {
			s.FreeBytes = &p.Free
		}
		if p.Shares != nil {
			s.Shares = &p.Shares
			for _, num := range p.Shares {
				distinct[num] = true
			}
		}
		r.Servers = append(r.Servers, s)
	}
	if file != nil {
		r.Shares = &sharePing{Distinct: len(distinct), Needed: file.K, Total: file.N}
	}
	return r
}

// print writes the report as a table, and a line that sums up the shares.
func (r pingReport) print(w io.Writer) error {
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	row := func(server, latency, free, shares, software, state string) {
		if r.Shares != nil {
			software = shares + "\t" + software
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", server, latency, free, software, state)
	}
	row("SERVER", "LATENCY", "FREE", "SHARES", "SOFTWARE", "STATE")
	for _, s := range r.Servers {
		latency, free, shares := "-", "-", "-"
		if s.LatencyMS != nil {
			latency = strconv.FormatFloat(*s.LatencyMS, 'f', 1, 64) + " ms"
		}
		if s.FreeBytes != nil {
			free = size(*s.FreeBytes).String()
		}
		if s.Shares != nil {
			shares = sharesText(*s.Shares)
		}
		row(s.Server, latency, free, shares, cmp.Or(s.Software, "-"), cmp.Or(s.Error, "ok"))
	}
	t.Flush()
	if s := r.Shares; s != nil {
		fmt.Fprintf(&b, "%d different shares of %d, %d needed\n", s.Distinct, s.Total, s.Needed)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// sharesText counts shares and names them.
func sharesText(nums []int) string {
	if len(nums) == 0 {
		return "0"
	}
	var names []string
	for _, num := range nums {
		names = append(names, strconv.Itoa(num))
	}
	return fmt.Sprintf("%d (%s)", len(nums), strings.Join(names, ", "))
}
