//go:build linux

package main

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"debug/buildinfo"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"spillway/scripts/internal/process"
	"spillway/scripts/internal/tahoe"
)

var (
	toolNginx  = tool{"nginx", "nginx", []string{"-v"}, "apt install nginx-light"}
	toolApache = tool{"Apache", "apache2", []string{"-v"}, "apt install apache2-bin"}
	toolRclone = tool{"rclone", "rclone", []string{"version"}, "apt install rclone"}
	toolMinIO  = tool{"MinIO", "minio", []string{"--version"}, "GOBIN=~/.cache/spillway/bench/bin go install github.com/minio/minio@latest"}
	toolWrk    = tool{"wrk", "wrk", []string{"-v"}, "apt install wrk"}
	toolTahoe  = tool{"Tahoe-LAFS", "tahoe", []string{"--version"}, "scripts/tahoe/install"}

	allTools = []tool{toolNginx, toolApache, toolRclone, toolMinIO, toolTahoe, toolWrk}
)

// find returns the path of the program.
func (t tool) find(l *lab) (string, error) {
	path, err := exec.LookPath(t.program)
	for _, dir := range []string{"/usr/sbin", "/usr/local/sbin", filepath.Join(l.cache, "bin"), filepath.Join(tahoeEnvironment(), "bin")} {
		if err == nil {
			return path, nil
		}
		path, err = exec.LookPath(filepath.Join(dir, t.program))
	}
	if err != nil {
		return "", fmt.Errorf("%s is not installed (%s)", t.name, t.install)
	}
	return path, nil
}

// version returns the first line of what the program says of itself, or that it is missing.
func (t tool) version(ctx context.Context, l *lab) string {
	path, err := t.find(l)
	if err != nil {
		return err.Error()
	}
	// Some exit with a status that is not 0, some write to standard error.
	out, _ := exec.CommandContext(ctx, path, t.args...).CombinedOutput()
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	if info, err := buildinfo.ReadFile(path); err == nil && strings.HasPrefix(info.Main.Version, "v") {
		// what was built by go install does not know its version
		line += ", module " + info.Main.Version
	}
	return line
}

// docroot is a directory with the file that peers serve, which they may read whoever they run as.
func (l *lab) docroot() (string, error) {
	plain, err := l.plain(0, l.large)
	if err != nil {
		return "", err
	}
	root := filepath.Join(l.work, "www")
	if err := linkOrCopy(plain, filepath.Join(root, "file")); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	return root, nil
}

// begin makes a directory for an instance of a peer, chooses an address for it and starts it with
// the command that command returns.
func (l *lab) begin(ctx context.Context, t tool, path string, command func(program, dir, address, root string) (*exec.Cmd, error)) (*instance, error) {
	program, err := t.find(l)
	if err != nil {
		return nil, err
	}
	root, err := l.docroot()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(l.work, t.program+"-")
	if err != nil {
		return nil, err
	}
	in := &instance{path: path, files: []string{path}, size: l.large, cleanup: []func(){func() { os.RemoveAll(dir) }}}
	var cmd *exec.Cmd
	addresses, err := process.FreeAddresses(1)
	if err == nil {
		in.address = addresses[0]
		cmd, err = command(program, dir, in.address, root)
	}
	if err != nil {
		in.clean()
		return nil, err
	}
	return l.start(ctx, in, dir, cmd)
}

// nginxConfig: what Debian's has, with room for 10,000 clients; a keep-alive connection is never
// ended by nginx.
const nginxConfig = `
daemon off;
pid %[1]s/pid;
error_log %[1]s/error.log;
worker_processes auto;
worker_rlimit_nofile %[4]d;
events { worker_connections %[5]d; }
http {
	access_log %[1]s/access.log;
	client_body_temp_path %[1]s/body;
	proxy_temp_path %[1]s/proxy;
	fastcgi_temp_path %[1]s/fastcgi;
	uwsgi_temp_path %[1]s/uwsgi;
	scgi_temp_path %[1]s/scgi;
	sendfile on;
	tcp_nopush %[6]s;
	keepalive_requests 1000000000;
	send_timeout 600;
	server { listen %[2]s backlog=4096; root %[3]s; }
}
`

// startNginx starts nginx with tcp_nopush on or off.
func startNginx(nopush string) func(context.Context, *lab) (*instance, error) {
	return func(ctx context.Context, l *lab) (*instance, error) {
		return l.begin(ctx, toolNginx, "/file", func(program, dir, address, root string) (*exec.Cmd, error) {
			config := filepath.Join(dir, "nginx.conf")
			text := fmt.Sprintf(nginxConfig, dir, address, root, descriptors, descriptors/2, nopush)
			return exec.Command(program, "-e", filepath.Join(dir, "error.log"), "-p", dir, "-c", config), os.WriteFile(config, []byte(text), 0o644)
		})
	}
}

// apacheConfig: the event MPM, as Debian's.
const apacheConfig = `
ServerRoot %[1]s
ServerName localhost
PidFile %[1]s/pid
Mutex file:%[1]s default
ErrorLog %[1]s/error.log
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LogFormat "%%h %%l %%u %%t \"%%r\" %%>s %%O" common
CustomLog %[1]s/access.log common
User %[4]s
Group %[5]s
Listen %[2]s
DocumentRoot %[3]s
EnableSendfile On
EnableMMAP Off
KeepAlive On
MaxKeepAliveRequests 0
StartServers 2
ThreadsPerChild 64
MaxRequestWorkers 256
<Directory %[3]s>
	Require all granted
</Directory>
`

func startApache(ctx context.Context, l *lab) (*instance, error) {
	return l.begin(ctx, toolApache, "/file", func(program, dir, address, root string) (*exec.Cmd, error) {
		// Started by root it insists on being somebody else; started by anybody else it ignores
		// this.
		config := filepath.Join(dir, "apache2.conf")
		text := fmt.Sprintf(apacheConfig, dir, address, root, "nobody", "nogroup")
		return exec.Command(program, "-D", "FOREGROUND", "-f", config), os.WriteFile(config, []byte(text), 0o644)
	})
}

func startRclone(ctx context.Context, l *lab) (*instance, error) {
	return l.begin(ctx, toolRclone, "/file", func(program, dir, address, root string) (*exec.Cmd, error) {
		cmd := exec.Command(program, "serve", "http", "--addr", address, "--config", filepath.Join(dir, "rclone.conf"),
			"--vfs-cache-mode", "full", "--cache-dir", filepath.Join(dir, "cache"), "--read-only", "--log-file", filepath.Join(dir, "rclone.log"), root)
		return cmd, nil
	})
}

func startMinIO(ctx context.Context, l *lab) (*instance, error) {
	const user, password = "spillway-bench", "of-this-run-alone"
	console, err := process.FreeAddresses(1)
	if err != nil {
		return nil, err
	}
	in, err := l.begin(ctx, toolMinIO, "/bench/file", func(program, dir, address, _ string) (*exec.Cmd, error) {
		cmd := exec.Command(program, "server", "--quiet", "--address", address, "--console-address", console[0], filepath.Join(dir, "drive{1...4}"))
		cmd.Env = append(os.Environ(), "MINIO_ROOT_USER="+user, "MINIO_ROOT_PASSWORD="+password, "MINIO_BROWSER=off", "MINIO_UPDATE=off", "HOME="+dir,
			// or it refuses drives that share a file system with the machine's root
			"MINIO_CI_CD=1")
		return cmd, nil
	})
	if err != nil {
		return nil, err
	}
	put := func(path, query string, body io.Reader) error {
		return putS3(ctx, user, password, in.address, path, query, body)
	}
	policy := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":["*"]},"Action":["s3:GetObject"],"Resource":["arn:aws:s3:::bench/*"]}]}`
	err = in.Await(ctx, "bucket", func() bool { return put("/bench", "", http.NoBody) == nil })
	if err == nil {
		err = put("/bench", "policy=", strings.NewReader(policy))
	}
	if err == nil {
		err = putFile(filepath.Join(l.work, "www", "file"), func(f io.Reader) error { return put(in.path, "", f) })
	}
	if err != nil {
		in.close()
		return nil, err
	}
	return in, nil
}

// putFile opens a file for put.
func putFile(path string, put func(io.Reader) error) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return put(f)
}

// putS3 sends a PUT that is signed as Amazon's "Signature Version 4" says, with an unsigned body.
func putS3(ctx context.Context, user, password, address, path, query string, body io.Reader) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, "http://"+address+path+"?"+query, body)
	if err != nil {
		return err
	}
	if f, ok := body.(*os.File); ok {
		info, err := f.Stat()
		if err != nil {
			return err
		}
		req.ContentLength = info.Size()
	}
	const region, unsigned, signed = "us-east-1", "UNSIGNED-PAYLOAD", "host;x-amz-content-sha256;x-amz-date"
	now := time.Now().UTC()
	day, date := now.Format("20060102"), now.Format("20060102T150405Z")
	canonical := strings.Join([]string{http.MethodPut, path, query,
		"host:" + address, "x-amz-content-sha256:" + unsigned, "x-amz-date:" + date, "", signed, unsigned}, "\n")
	scope := day + "/" + region + "/s3/aws4_request"
	key := []byte("AWS4" + password)
	for _, part := range []string{day, region, "s3", "aws4_request", fmt.Sprintf("AWS4-HMAC-SHA256\n%s\n%s\n%x", date, scope, sha256.Sum256([]byte(canonical)))} {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(part))
		key = mac.Sum(nil)
	}
	req.Header.Set("X-Amz-Content-Sha256", unsigned)
	req.Header.Set("X-Amz-Date", date)
	req.Header.Set("Authorization", fmt.Sprintf("AWS4-HMAC-SHA256 Credential=%s/%s, SignedHeaders=%s, Signature=%x", user, scope, signed, key))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode >= 300 {
		err = fmt.Errorf("PUT %s: %s\n%s", path, resp.Status, text)
	}
	return err
}

// tahoeEnvironment is where Tahoe-LAFS is, if it is.
func tahoeEnvironment() string {
	dir, err := tahoe.Environment()
	if err != nil {
		return ""
	}
	return dir
}

// startTahoe starts a grid of five storage nodes, which hold the shares of r, and its gateway.
func startTahoe(r recipe, foolscap bool) func(context.Context, *lab) (*instance, error) {
	return func(ctx context.Context, l *lab) (*instance, error) {
		g, err := l.grid(ctx, r, primary)
		if err != nil {
			return nil, err
		}
		dir, err := os.MkdirTemp(l.work, "tahoe-")
		if err != nil {
			return nil, err
		}
		in := &instance{size: g.size, path: "/uri/" + g.caps[0], cleanup: []func(){func() { os.RemoveAll(dir) }}}
		if err := l.runTahoe(ctx, in, g, dir, foolscap); err != nil {
			in.clean()
			return nil, err
		}
		return in, nil
	}
}

// runTahoe starts the grid and gives its storage nodes the shares.
func (l *lab) runTahoe(ctx context.Context, in *instance, g *grid, dir string, foolscap bool) error {
	nodes, err := tahoe.Start(ctx, l.root, dir, tahoe.Layout{})
	if err != nil {
		return err
	}
	in.Process, in.cleanup = nodes.Process, append(in.cleanup, nodes.Close)
	if foolscap {
		if err := nodes.SpeakFoolscap(ctx); err != nil {
			return err
		}
	}
	for i, server := range g.servers {
		if err := tahoe.Link(server, nodes.Storage[i%len(nodes.Storage)]); err != nil {
			return err
		}
	}
	in.address, err = tahoe.Address(nodes.NodeURL)
	return err
}
