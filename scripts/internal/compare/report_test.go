package compare_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"spillway/scripts/internal/compare"
)

func TestReport(t *testing.T) {
	rate := []compare.Quantity{{Name: "throughput", Unit: "MB/s"}}
	r := compare.Report{
		Command: "go run ./scripts/bench --quick",
		Method:  "It was quiet.",
		Machine: []compare.Fact{{Name: "CPU", Text: "one that computes"}},
		Rounds:  3,
		Took:    90 * time.Second,
		Results: []compare.Result{
			{
				Name: "serve/whole-file", What: "One client.", Quantities: rate,
				Targets: []compare.Target{
					{Side: "Spillway", Over: "nginx", Least: 1.1},
					{Side: "Spillway", Over: "MinIO", Least: 2},
					{Side: "Spillway", Most: 8},
				},
				Outcomes: []compare.Outcome{
					{Side: "Spillway", Samples: []compare.Sample{
						{Values: []float64{2000}, Delivered: 1e9, CPU: 200 * time.Millisecond, Peak: 16 << 20},
						{Values: []float64{2200}, Delivered: 2e9, CPU: 400 * time.Millisecond, Peak: 18 << 20},
						{Values: []float64{2400}, Delivered: 1e9, CPU: 200 * time.Millisecond, Peak: 17 << 20},
					}},
					{Side: "nginx", Samples: []compare.Sample{
						{Values: []float64{1000}, Stages: []compare.Stage{{Name: "pread", Bytes: 1e9, Took: time.Second}}},
						{Values: []float64{2000}, Stages: []compare.Stage{{Name: "pread", Bytes: 4e9, Took: time.Second}}},
						{Values: []float64{2000}, Stages: []compare.Stage{{Name: "pread", Bytes: 2e9, Took: time.Second}}},
					}},
					{Side: "Apache", Err: errors.New("it broke\nwith a long log")},
					{Side: "MinIO", Missing: "it is not installed"},
				},
			},
			{
				Name: "stalled/10000", What: "Many.", Quantities: rate, Skipped: "takes too long",
				Targets: []compare.Target{{Side: "Spillway", Most: 8}},
			},
			{
				Name: "grid/first-byte", What: "Nothing used.", Quantities: rate, Separate: true,
				Outcomes: []compare.Outcome{{Side: "Spillway", Samples: []compare.Sample{{Values: []float64{1}}}}},
			},
		},
	}
	var b strings.Builder
	if err := r.Write(&b); err != nil {
		t.Fatal(err)
	}
	got := b.String()
	for _, want := range []string{
		"`go run ./scripts/bench --quick` in 1m30s",
		"there were 3 rounds",
		"It was quiet.\n",
		"| | throughput, MB/s |\n|---|---:|\n| Spillway | 1 |\n",
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
		if got := compare.Number(test.x); got != test.want {
			t.Errorf("compare.Number(%v) = %s, want %s", test.x, got, test.want)
		}
	}
}
