package server_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"spillway/decode"
	"spillway/decode/grid"
	"spillway/server"
)

// brief is an error of a server that speaks for itself.
type brief string

func (b brief) Error() string { return "secret" }
func (b brief) Brief() string { return string(b) }

func TestSharesText(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	place := func(num int, server string) grid.SharePlace { return grid.SharePlace{Share: num, Server: server} }
	failed := func(server string, ago time.Duration, err error) grid.ServerError {
		return grid.ServerError{Server: server, When: now.Add(-ago), Err: err}
	}
	// What errors say beside their kind stays out of it.
	dial := func(err error) error {
		return fmt.Errorf("share 3: %w", &net.OpError{Op: "dial", Net: "tcp", Addr: &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 666}, Err: err})
	}
	var hundred []grid.ServerError
	for i := range 100 {
		hundred = append(hundred, grid.ServerError{Server: fmt.Sprintf("s%02d", i), Err: io.EOF})
	}
	for want, st := range map[string]decode.Status{
		"3 of 10 shares needed; have none": {Needed: 3, Total: 10},
		"3 of 10 shares needed; have 2: a (share 1), b (share 4); c timed out 12 s ago, d answered 401 2 min ago": {Needed: 3, Total: 10,
			Found: []grid.SharePlace{place(4, "b"), place(1, "a")},
			Failed: []grid.ServerError{
				failed("d", 179*time.Second, fmt.Errorf("share 5: %w", brief("answered 401"))),
				failed("c", 12*time.Second, dial(os.ErrDeadlineExceeded)),
				failed("c", 50*time.Second, io.EOF),
			}},
		"2 of 4 shares needed; have 1: s0 (share 0), pb://KEY@h:1 (share 0); corrupt: pb://KEY@h:1 (shares 1, 3)": {Needed: 2, Total: 4,
			Found: []grid.SharePlace{place(0, "pb://KEY@h:1"), place(0, "file:///srv/s0"), place(0, "file:///srv/s0")},
			Bad:   []grid.SharePlace{place(3, "pb://KEY@h:1"), place(1, "pb://KEY@h:1")}},
		"1 of 1 shares needed; have none; a refused the connection 0 s ago, b could not be reached 3 hours ago, c has an address that nobody knows 3 days ago, " +
			"d cut the connection 119 s ago, e failed 0 s ago, f timed out 1 s ago; waiting for g for 3 s": {Needed: 1, Total: 1,
			Failed: []grid.ServerError{
				failed("a", 0, dial(syscall.ECONNREFUSED)),
				failed("b", 3*time.Hour+59*time.Minute, dial(os.NewSyscallError("connect", syscall.EHOSTUNREACH))),
				failed("c", 80*time.Hour, dial(&net.DNSError{Name: "secret", IsNotFound: true})),
				failed("d", 119*time.Second, dial(syscall.ECONNRESET)),
				failed("e", -time.Second, errors.New("secret")),
				failed("f", time.Second, context.DeadlineExceeded),
			},
			Waiting: []decode.ServerWait{{Server: "g", Since: now.Add(-3 * time.Second)}}},
	} {
		if got := server.SharesText(st, now); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if got := server.SharesText(decode.Status{Needed: 1, Total: 1, Failed: hundred}, now); !strings.HasSuffix(got, "s18 failed, s19 failed and 80 more") {
		t.Errorf("%q", got)
	}
}
