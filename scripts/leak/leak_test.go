package leak_test

import (
	"os"
	"strings"
	"testing"
	"testing/synctest"

	"spillway/scripts/leak"
)

func TestMain(m *testing.M) { leak.Main(m) }

// tests are what stands for a *testing.M.
type tests func() int

func (run tests) Run() int { return run() }

// TestLeftOver has tests leave one thing each.
func TestLeftOver(t *testing.T) {
	for _, test := range []struct {
		name   string
		run    func(t *testing.T) int // what it leaves is gone when t ends
		status int
		report string
	}{
		{"nothing", func(*testing.T) int { return 0 }, 0, ""},
		{"a failure", func(*testing.T) int { return 2 }, 2, ""},
		{"a file", func(t *testing.T) int {
			file, err := os.Open(os.DevNull)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { file.Close() })
			return 0
		}, 1, "descriptor is left open: "},
		{"a goroutine", func(t *testing.T) int {
			stop := make(chan struct{})
			go func() { <-stop }()
			t.Cleanup(func() { close(stop) })
			return 0
		}, 1, "goroutine is left over: "},
		{"a goroutine, by tests that failed", func(t *testing.T) int {
			stop := make(chan struct{})
			go func() { <-stop }()
			t.Cleanup(func() { close(stop) })
			return 2
		}, 2, ""},
		{"a pipe that is garbage", func(t *testing.T) int {
			if _, _, err := os.Pipe(); err != nil {
				t.Fatal(err)
			}
			return 0
		}, 0, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var report strings.Builder
				run := tests(func() int { return test.run(t) })
				status := leak.RunTo(leak.Checked{Tests: run}, &report)
				got := report.String()
				told := strings.Contains(got, test.report) && (got == "") == (test.report == "")
				if status != test.status || !told {
					t.Errorf("status %d, report %q; want %d, %q", status, got, test.status, test.report)
				}
			})
		})
	}
}
