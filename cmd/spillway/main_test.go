package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"spillway/scripts/leak"
)

func TestMain(m *testing.M) {
	testscript.Main(leak.Checked{Tests: m}, map[string]func(){
		"spillway": func() {
			ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			os.Exit(run(ctx, os.Args[1:], streams{os.Stdin, os.Stdout, os.Stderr}))
		},
		"timers": printTimerSlack,
	})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata"})
}

// printTimerSlack is a program that coarsens its timers and prints what becomes of that: each
// thread's slack in nanoseconds, and its arguments.
func printTimerSlack() {
	coarsenTimers()
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		panic(err)
	}
	for _, thread := range threads {
		slack, err := os.ReadFile("/proc/" + thread.Name() + "/timerslack_ns")
		if err != nil {
			panic(err)
		}
		fmt.Printf("slack %s", slack)
	}
	_, left := os.LookupEnv(slackSet)
	fmt.Println("arguments", os.Args[1:], "environment", left)
}
