package compare

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestMeasure(t *testing.T) {
	var report Report
	var progress bytes.Buffer
	results := []Result{
		{Name: "good", Outcomes: []Outcome{{Side: "a"}}},
		{Name: "bad", Outcomes: []Outcome{{Side: "a"}, {Side: "b", Err: errors.New("it broke")}}},
	}
	if err := report.Measure(t.Context(), &progress, len(results), func(row int) Result { return results[row] }); err != nil {
		t.Fatal(err)
	}
	if len(report.Results) != 2 || !strings.Contains(progress.String(), "bad: b: it broke\n") {
		t.Errorf("%d results, progress %q", len(report.Results), &progress)
	}
	path := filepath.Join(t.TempDir(), "report")
	if err := report.Publish(path); err == nil || !strings.Contains(err.Error(), "1 sides") {
		t.Errorf("publishing: %v", err)
	}
	if text, err := os.ReadFile(path); err != nil || !bytes.Contains(text, []byte("## bad")) {
		t.Errorf("the report: %q, %v", text, err)
	}
}

func TestMeasureInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var report Report
	err := report.Measure(ctx, new(bytes.Buffer), 2, func(int) Result { cancel(); return Result{} })
	if err == nil || len(report.Results) != 0 {
		t.Errorf("%d results, %v", len(report.Results), err)
	}
}
