package interop_test

import (
	"encoding/json"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/minio/minio-go/v7"

	"spillway/decode/grid/s3/s3test"
	"spillway/scripts/internal/cutter"
	"spillway/scripts/internal/gateway"
	"spillway/scripts/internal/sample"
)

// TestS3 writes into and reads from the buckets of a real S3 server, alone and beside storage
// directories.
func TestS3(t *testing.T) {
	server := s3test.Start(t)
	var servers []string
	for _, name := range []string{"first", "second", "third"} {
		servers = append(servers, server.Bucket(t, name))
	}
	mixed := []string{servers[0], t.TempDir(), strings.Replace(servers[1], "second", "second/a/prefix", 1), t.TempDir(), servers[2]}
	gw := gateway.Start(t, mixed)
	for _, size := range []int64{0, 55, 56, 1000, 2*1048578 + 1, 5_000_000, 60_000_000} {
		file, want := sample.Write(t, 11, size)
		readCap := gateway.Put(t, mixed, file, "--k", "3", "--n", "10")
		readBySpillway(t, mixed, gw, readCap, size, want)
		// The six shares of the buckets are enough.
		readBySpillway(t, []string{mixed[0], mixed[2], mixed[4]}, gw, readCap, size, want)
	}
}

// TestS3Copy copies storage directories that Tahoe-LAFS wrote into buckets.
func TestS3Copy(t *testing.T) {
	server := s3test.Start(t)
	client := server.Client(t)
	base := filepath.Join("..", "fixtures", "storage")
	var servers []string
	dirs, err := os.ReadDir(base)
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range dirs {
		servers = append(servers, strings.Replace(server.Bucket(t, "copies"), "copies", "copies/"+dir.Name(), 1))
	}
	err = filepath.WalkDir(base, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		key, err := filepath.Rel(base, path)
		if err == nil {
			_, err = client.FPutObject(t.Context(), "copies", filepath.ToSlash(key), path, minio.PutObjectOptions{})
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	var fixtures []struct {
		Cap    string     `json:"cap"`
		Size   int64      `json:"size"`
		SHA256 sample.Sum `json:"sha256"`
	}
	text, err := os.ReadFile(filepath.Join("..", "fixtures", "manifest.json"))
	if err == nil {
		err = json.Unmarshal(text, &fixtures)
	}
	if err != nil || len(fixtures) == 0 {
		t.Fatalf("%d fixtures, %v", len(fixtures), err)
	}
	gw := gateway.Start(t, servers)
	for _, f := range fixtures {
		readBySpillway(t, servers, gw, f.Cap, f.Size, f.SHA256)
	}
}

// TestS3Dies: connections break in the middle of answers, and then a server dies in the middle of
// a download; the other servers have just shares enough.
func TestS3Dies(t *testing.T) {
	dying, cut, well := s3test.Start(t), s3test.Start(t), s3test.Start(t)
	proxy := cutter.Start(t, cut.Host, func(conn int) cutter.Cut {
		return cutter.Cut{After: 100_000 + int64(conn)*150_000, Reset: conn%2 == 1}
	})
	const size = 30_000_000
	file, want := sample.Write(t, 12, size)
	direct := []string{dying.Bucket(t, "shares"), cut.Bucket(t, "shares"), well.Bucket(t, "shares"), t.TempDir()}
	readCap := gateway.Put(t, direct, file, "--k", "3", "--n", "4")

	servers := append([]string(nil), direct...)
	servers[1] = strings.Replace(direct[1], cut.Host, proxy.Addr, 1)
	gw := gateway.Start(t, servers)
	resp, err := http.Get(gw.File(readCap))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	dying.Kill()
	if got := sample.SumOf(t, resp.Body); got != want {
		t.Errorf("SHA-256 %s, want %s", got, want)
	}
	if proxy.Cuts() == 0 {
		t.Error("nothing was cut")
	}
	for _, secret := range []string{strings.Split(readCap, ":")[2], s3test.SecretKey, s3test.AccessKey} {
		if strings.Contains(gw.Log(), secret) {
			t.Error("the log holds a secret")
		}
	}
}

// TestS3Refused: wrong credentials and a missing bucket are told, and no secret is.
func TestS3Refused(t *testing.T) {
	server := s3test.Start(t)
	url := server.Bucket(t, "shares")
	file, _ := sample.Write(t, 13, 100_000)
	readCap := gateway.Put(t, []string{url}, file)
	for name, test := range map[string]struct{ url, secret, want string }{
		"secret": {url, "a-wrong-secret-of-the-tests", "refuses the AWS credentials"},
		"bucket": {strings.Replace(url, "shares", "nobody-made-this", 1), s3test.SecretKey, "no such bucket"},
		"URL":    {strings.Replace(url, "shares", "key:"+s3test.SecretKey+"@shares", 1), s3test.SecretKey, "credentials have no place in the URL"},
	} {
		t.Setenv("AWS_SECRET_ACCESS_KEY", test.secret)
		for _, args := range [][]string{{"get", "--server", test.url, readCap}, {"put", "--server", test.url, file}, {"check", "--json", "--server", test.url, readCap}} {
			out, err := gateway.Run(t, args...)
			if err == nil {
				t.Errorf("%s: spillway %s succeeds", name, args[0])
				continue
			}
			if text := out + err.Error(); !strings.Contains(text, test.want) || strings.Contains(text, test.secret) || strings.Contains(text, readCap) {
				t.Errorf("%s: spillway %s: %v\n%s", name, args[0], err, out)
			}
		}
	}
}
