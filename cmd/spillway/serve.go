package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"time"

	"spillway/decode"
	"spillway/decode/fleet"
	"spillway/server"
	"spillway/spool"
)

// drainTime is how long downloads may go on after the first signal to stop.
// Clients resume at the next start, so it need only cover short answers.
const drainTime = 5 * time.Second

// gcPercent is how much garbage, in percent of what lives, is let lie: what many stalled clients
// hold should not count twice. gcFloor, in bytes, counts as living besides. Of a gateway that only
// serves so little lives that ten percent of it would be garbage after every fifty requests. The
// floor is address space that is never touched, not memory.
const (
	gcPercent = 10
	gcFloor   = 32 << 20
)

type serveCmd struct {
	gridFlags
	Listen         string `default:"127.0.0.1:8080" help:"Address for downloads."`
	AdminListen    string `default:"127.0.0.1:8081" help:"Address for the administrator and for metrics."`
	AdminTokenFile string `placeholder:"FILE" type:"path" help:"File with the administrator's bearer token. Without one the admin address must be a loopback one."`
	SpoolDir       string `default:"/var/tmp" type:"path" help:"Directory, on a disk, for the nameless spool files."`
	SpoolSize      size   `default:"10GiB" help:"Disk space for all spooled files."`
	Retention      period `default:"2h" help:"How long a file is kept after its last reader has left; with 0s it goes with that reader."`
	AllowTmpfs     bool   `help:"Accept a spool directory that lies in memory."`
}

func (c *serveCmd) Run(ctx context.Context, log *slog.Logger) error {
	token, err := readToken(c.AdminTokenFile)
	if err != nil {
		return err
	}
	if token == "" && !isLoopback(c.AdminListen) {
		return usagef("--admin-listen %s is reachable from other machines: set --admin-token-file, or listen on 127.0.0.1", c.AdminListen)
	}
	public, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return fmt.Errorf("listening for downloads: %w", err)
	}
	defer public.Close()
	admin, err := net.Listen("tcp", c.AdminListen)
	if err != nil {
		return fmt.Errorf("listening for the administrator: %w", err)
	}
	defer admin.Close()
	hangups := make(chan os.Signal, 1)
	if c.Grid != "" {
		signal.Notify(hangups, syscall.SIGHUP)
		defer signal.Stop(hangups)
	}
	servers, err := c.servers(log)
	if err != nil {
		return err
	}
	members, err := fleet.New(fleet.Config{Servers: fleetServers(servers), Log: log})
	if err != nil {
		return err
	}
	defer members.Close()
	client, err := c.client(members, log)
	if err != nil {
		return err
	}
	defer client.Close()
	reloads := gridReloads{flags: &c.serverFlags, fleet: members, servers: servers, log: log}
	var beside sync.WaitGroup
	defer beside.Wait()
	serving, stop := context.WithCancel(ctx)
	defer stop()
	beside.Go(func() { reloads.run(serving, hangups) })
	beside.Go(func() { members.StayConnected(serving) })
	g := gateway{
		client: client,
		public: public,
		admin:  admin,
		token:  token,
		spool: spool.Config{
			Dir:        c.SpoolDir,
			AllowTmpfs: c.AllowTmpfs,
			Budget:     int64(c.SpoolSize),
			Retention:  time.Duration(c.Retention),
			Log:        log,
		},
	}
	return g.serve(ctx, log)
}

// readToken returns the administrator's token, or "" when there is no file.
func readToken(file string) (string, error) {
	if file == "" {
		return "", nil
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("reading the administrator's token: %w", err)
	}
	token := strings.TrimSpace(string(b))
	if token == "" {
		return "", fmt.Errorf("the administrator's token file %s is empty: write a long random word into it", file)
	}
	return token, nil
}

// isLoopback tells whether only this machine can connect to the address.
func isLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// gateway is a running Spillway: the grid on one side, two listeners on the other,
// the spool in between.
type gateway struct {
	client        *decode.Client
	public, admin net.Listener
	token         string
	spool         spool.Config
	ready         func() // called when requests are answered; may be nil
}

// serve answers requests until the context ends, then lets short answers finish,
// cuts the rest and returns when all is given back.
func (g *gateway) serve(ctx context.Context, log *slog.Logger) error {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
		floor := make([]byte, gcFloor)
		defer runtime.KeepAlive(floor)
	}
	sp, err := spool.Open(g.spool)
	if errors.Is(err, spool.ErrInMemory) {
		return usagef("%w; choose another --spool-dir, or --allow-tmpfs", err)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return usagef("--spool-dir: %w", err)
	}
	if err != nil {
		return err
	}
	defer sp.Close()
	handlers := server.New(server.Config{
		Spool:      sp,
		Client:     g.client,
		Log:        log,
		AdminToken: g.token,
		Version:    versionText(),
	})
	servers := []*http.Server{
		handlers.HTTPServer(handlers.Public()),
		handlers.HTTPServer(handlers.Admin()),
	}
	failed := make(chan error, len(servers))
	for i, l := range []net.Listener{handlers.Listener(g.public), g.admin} {
		go func() { failed <- servers[i].Serve(l) }()
	}
	log.Info("serving", "downloads", g.public.Addr().String(), "admin", g.admin.Addr().String(),
		"spool_dir", g.spool.Dir, "spool_size", g.spool.Budget, "version", versionText())
	if g.ready != nil {
		g.ready()
	}
	running := len(servers)
	select {
	case <-ctx.Done():
		log.Info("stopping", "drain", drainTime)
	case err = <-failed:
		running--
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
	defer cancel()
	if errors.Is(handlers.Shutdown(drain, servers...), context.DeadlineExceeded) {
		log.Info("cut the downloads that were running; clients can resume them")
	}
	for range running {
		if e := <-failed; err == nil && !errors.Is(e, http.ErrServerClosed) {
			err = e
		}
	}
	return err
}
