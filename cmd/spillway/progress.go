package main

import (
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// progress is a bar on a terminal, and nothing elsewhere.
type progress struct {
	bar *progressbar.ProgressBar // nil for nothing
	w   io.Writer                // where the bar is
}

// newProgress returns the progress of something of total bytes, shown on w if that is a terminal.
func newProgress(w io.Writer, what string, total int64) progress {
	if f, ok := w.(*os.File); !ok || !term.IsTerminal(int(f.Fd())) {
		return progress{}
	}
	return newBar(w, what, total)
}

func newBar(w io.Writer, what string, total int64) progress {
	return progress{w: w, bar: progressbar.NewOptions64(total,
		progressbar.OptionSetDescription(what),
		progressbar.OptionSetWriter(w),
		progressbar.OptionShowBytes(true),
		progressbar.OptionUseIECUnits(true),
		progressbar.OptionShowTotalBytes(true),
		progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionFullWidth(),
		progressbar.OptionSetPredictTime(true),
	)}
}

// set says that done bytes are done.
func (p progress) set(done int64) {
	if p.bar != nil {
		p.bar.Set64(done)
	}
}

// finish leaves the bar as it is and begins a new line.
func (p progress) finish() {
	if p.bar != nil {
		p.bar.Exit()
		io.WriteString(p.w, "\n")
	}
}
