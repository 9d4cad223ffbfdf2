// Package s3test runs a real S3 server for tests: versitygw, which keeps buckets as directories.
package s3test

import (
	"bytes"
	"net"
	"net/url"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"spillway/scripts/need"
)

// The credentials that the server knows. Start puts them into the test's environment.
const (
	AccessKey = "the-access-key"
	SecretKey = "the-secret-key-that-must-never-be-seen"
	Region    = "test-region-1"
)

// Server is a running S3 server.
type Server struct {
	Endpoint string // http://HOST:PORT, or https://
	Host     string // HOST:PORT

	command *exec.Cmd
}

// Start starts a server that ends with the test. It gives the test's environment the credentials
// for it, and takes from it whatever else could name some. If files of a certificate and its key
// are given, it speaks TLS. Where versitygw is not installed, the test is skipped, or fails if
// SPILLWAY_NO_SKIP=1 forbids that.
func Start(tb testing.TB, certificate ...string) *Server {
	tb.Helper()
	path := need.Versitygw(tb)
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": AccessKey, "AWS_SECRET_ACCESS_KEY": SecretKey, "AWS_SESSION_TOKEN": "",
		"AWS_ACCESS_KEY": "", "AWS_SECRET_KEY": "", "AWS_PROFILE": "", "AWS_REGION": "", "AWS_DEFAULT_REGION": "",
		"AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull, "AWS_EC2_METADATA_DISABLED": "true",
	} {
		tb.Setenv(name, value)
	}
	s := &Server{Host: freeAddress(tb)}
	s.Endpoint = "http://" + s.Host
	args := []string{"--port", s.Host, "--region", Region, "--keep-alive", "--quiet"}
	if len(certificate) > 0 {
		s.Endpoint = "https://" + s.Host
		args = append(args, "--cert", certificate[0], "--key", certificate[1])
	}
	s.command = exec.Command(path, append(args, "posix", tb.TempDir())...)
	s.command.Env = append(os.Environ(), "ROOT_ACCESS_KEY_ID="+AccessKey, "ROOT_SECRET_ACCESS_KEY="+SecretKey)
	s.command.Dir = tb.TempDir()
	var output bytes.Buffer
	s.command.Stdout, s.command.Stderr = &output, &output
	// However the test process dies, the server dies with it.
	s.command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started, ended := make(chan error), make(chan struct{})
	go func() {
		// The parent, as Linux sees it, is the thread, so one is kept for as long.
		runtime.LockOSThread()
		err := s.command.Start()
		started <- err
		if err == nil {
			s.command.Wait()
			close(ended)
		}
	}()
	if err := <-started; err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		s.command.Process.Kill()
		<-ended
	})
	// The server does not tell when it listens, so it is tried again and again.
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		conn, err := net.Dial("tcp", s.Host)
		if err == nil {
			conn.Close()
			return s
		}
		select {
		case <-ended:
			tb.Fatalf("versitygw ended: %v\n%s", s.command.ProcessState, output.Bytes())
		case <-tb.Context().Done():
			tb.Fatal(err)
		case <-again.C:
		}
	}
}

// freeAddress returns an address of 127.0.0.1 on which nothing listens yet.
func freeAddress(tb testing.TB) string {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// Kill ends the server at once.
func (s *Server) Kill() { s.command.Process.Kill() }

// Bucket makes a bucket unless it is there, and returns its URL.
func (s *Server) Bucket(tb testing.TB, name string) string {
	tb.Helper()
	c := s.Client(tb)
	there, err := c.BucketExists(tb.Context(), name)
	if err == nil && !there {
		err = c.MakeBucket(tb.Context(), name, minio.MakeBucketOptions{Region: Region})
	}
	if err != nil {
		tb.Fatal(err)
	}
	return s.URL(name)
}

// URL returns the URL of a bucket, or of a prefix in one.
func (s *Server) URL(path string) string {
	return "s3://" + path + "?endpoint=" + s.Endpoint + "&region=" + Region
}

// Client returns a client that may do everything.
func (s *Server) Client(tb testing.TB) *minio.Client {
	tb.Helper()
	endpoint, err := url.Parse(s.Endpoint)
	if err != nil {
		tb.Fatal(err)
	}
	transport, err := minio.DefaultTransport(endpoint.Scheme == "https")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(transport.CloseIdleConnections)
	c, err := minio.New(endpoint.Host, &minio.Options{
		Creds: credentials.NewStaticV4(AccessKey, SecretKey, ""), Region: Region, Secure: endpoint.Scheme == "https", Transport: transport,
	})
	if err != nil {
		tb.Fatal(err)
	}
	return c
}
