//go:build linux

package main

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestReport(t *testing.T) {
	rate := []quantity{{"throughput", "MB/s"}}
	served := &row{
		name:       "serve/whole-file",
		what:       "One client.",
		quantities: rate,
		sides:      []side{{name: "Spillway"}, {name: "nginx"}, {name: "Apache"}, {name: "MinIO"}},
		targets: []target{
			{side: "Spillway", over: "nginx", least: 1.1},
			{side: "Spillway", over: "MinIO", least: 2},
			{side: "Spillway", most: 8},
		},
	}
	slow := &row{name: "stalled/10000", what: "Many.", quantities: rate, sides: []side{{name: "Spillway"}},
		targets: []target{{side: "Spillway", most: 8}}}
	r := report{
		machine: []fact{{"CPU", "one that computes"}},
		quick:   true,
		rounds:  3,
		took:    90 * time.Second,
		results: []result{
			{row: served, outcomes: []outcome{
				{side: "Spillway", samples: []sample{
					{values: []float64{2000}, delivered: 1e9, cpu: 200 * time.Millisecond, peak: 16 << 20},
					{values: []float64{2200}, delivered: 2e9, cpu: 400 * time.Millisecond, peak: 18 << 20},
					{values: []float64{2400}, delivered: 1e9, cpu: 200 * time.Millisecond, peak: 17 << 20},
				}},
				{side: "nginx", samples: []sample{
					{values: []float64{1000}, stages: []stage{{"pread", 1e9, time.Second}}},
					{values: []float64{2000}, stages: []stage{{"pread", 4e9, time.Second}}},
					{values: []float64{2000}, stages: []stage{{"pread", 2e9, time.Second}}},
				}},
				{side: "Apache", err: errors.New("it broke\nwith a long log")},
				{side: "MinIO", missing: "it is not installed"},
			}},
			{row: slow, skipped: "takes too long"},
		},
	}
	var b strings.Builder
	if err := r.write(&b); err != nil {
		t.Fatal(err)
	}
	got := b.String()
	for _, want := range []string{
		"`go run ./scripts/bench --quick` in 1m30s",
		"there were 3 rounds",
		"- CPU: one that computes\n",
		"| serve/whole-file | throughput | Spillway: at least 1.1 of nginx | 1.2 | met |\n",
		"| serve/whole-file | throughput | Spillway: at least 2 of MinIO |  | not measured |\n",
		"| serve/whole-file | throughput | Spillway: at most 8 MB/s | 2200 | **missed** |\n",
		"| stalled/10000 | throughput | Spillway: at most 8 MB/s |  | not measured |\n",
		"| | throughput, MB/s | Spillway / it | CPU s/GB | peak RSS, MiB |\n|---|---:|---:|---:|---:|\n",
		"| Spillway | 2200 (2000–2400) | 1 | 0.2 | 17 |\n",
		"| nginx | 2000 (1000–2000) | 1.2 |  |  |\n",
		"| Apache | **failed**: it broke |\n",
		"| MinIO | not measured: it is not installed |\n",
		"nginx, GB/s of plaintext: pread 2.\n",
		"## stalled/10000\n\nMany.\n\nNot measured: takes too long.\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the report lacks\n%s\nin\n%s", want, got)
		}
	}
}

func TestNumber(t *testing.T) {
	for _, test := range []struct {
		x    float64
		want string
	}{
		{0, "0"}, {1, "1"}, {1.1, "1.1"}, {0.954, "0.95"}, {0.0123, "0.012"}, {20, "20"},
		{99.94, "99.9"}, {989.4, "989"}, {12345, "12345"}, {-3.5, "-3.5"},
	} {
		if got := number(test.x); got != test.want {
			t.Errorf("number(%v) = %s, want %s", test.x, got, test.want)
		}
	}
}
