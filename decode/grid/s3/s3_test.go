package s3_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/minio/minio-go/v7"

	"spillway/decode/grid"
	"spillway/decode/grid/container"
	"spillway/decode/grid/gridtest"
	"spillway/decode/grid/s3"
	"spillway/decode/grid/s3/s3test"
	"spillway/scripts/leak"
)

const bucket = "shares-of-tests"

// certificate and key are files of what TestMain makes the one authority.
var certificate, key string

func TestMain(m *testing.M) {
	// net/http tells there that versitygw takes a body that it refused for another request.
	log.SetOutput(io.Discard)
	os.Exit(run(m))
}

// run has this process trust a certificate for 127.0.0.1, which can be done only before the first
// one is verified.
func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "spillway-s3-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	s := httptest.NewTLSServer(nil)
	defer s.Close()
	private, err := x509.MarshalPKCS8PrivateKey(s.TLS.Certificates[0].PrivateKey)
	if err != nil {
		panic(err)
	}
	certificate, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for path, block := range map[string]*pem.Block{
		certificate: {Type: "CERTIFICATE", Bytes: s.Certificate().Raw},
		key:         {Type: "PRIVATE KEY", Bytes: private},
	} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			panic(err)
		}
	}
	os.Setenv("SSL_CERT_FILE", certificate)
	return leak.Checked{Tests: m}.Run()
}

// open returns the server of a URL, which is closed at the end of the test.
func open(t testing.TB, text string) *s3.Server {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	s, err := s3.Parse(u)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestConformance(t *testing.T) {
	for name, files := range map[string][]string{"HTTP": nil, "TLS": {certificate, key}} {
		t.Run(name, func(t *testing.T) {
			server := s3test.Start(t, files...)
			for _, prefix := range []string{"", "/a b/c"} {
				t.Run("prefix "+prefix, func(t *testing.T) {
					server.Bucket(t, bucket)
					gridtest.Run(t, func(t *testing.T) grid.Server {
						return open(t, strings.ReplaceAll(server.URL(bucket+prefix), " ", "%20"))
					})
				})
			}
		})
	}
}

// objectKey is where a share must stand.
func objectKey(si grid.StorageIndex, num int) string {
	return fmt.Sprintf("shares/%s/%s/%d", si.String()[:2], si, num)
}

// object returns the bytes of a share's object.
func object(t *testing.T, server *s3test.Server, si grid.StorageIndex, num int) []byte {
	t.Helper()
	o, err := server.Client(t).GetObject(t.Context(), bucket, objectKey(si, num), minio.GetObjectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	b, err := io.ReadAll(o)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// hold puts an object where a share is expected.
func hold(t *testing.T, server *s3test.Server, si grid.StorageIndex, num int, b []byte) {
	t.Helper()
	_, err := server.Client(t).PutObject(t.Context(), bucket, objectKey(si, num), bytes.NewReader(b), int64(len(b)), minio.PutObjectOptions{})
	if err != nil {
		t.Fatal(err)
	}
}

// left returns the keys of all objects, and of all uploads that are neither complete nor aborted.
func left(t *testing.T, server *s3test.Server) (keys []string) {
	t.Helper()
	c := server.Client(t)
	for o := range c.ListObjectsIter(t.Context(), bucket, minio.ListObjectsOptions{Recursive: true}) {
		if o.Err != nil {
			t.Fatal(o.Err)
		}
		keys = append(keys, o.Key)
	}
	for o := range c.ListIncompleteUploads(t.Context(), bucket, "", true) {
		if o.Err != nil {
			t.Fatal(o.Err)
		}
		keys = append(keys, "incomplete "+o.Key)
	}
	return keys
}

// container of a share with leases.
func contain(version, leases uint32, share []byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, version)
	b = binary.BigEndian.AppendUint32(b, uint32(len(share)))
	b = binary.BigEndian.AppendUint32(b, leases)
	return append(append(b, share...), make([]byte, leases*container.LeaseSize)...)
}

// pattern returns bytes that differ from place to place.
func pattern(size int) []byte {
	b := make([]byte, size)
	for i := 0; i+8 <= size; i += 8 {
		binary.BigEndian.PutUint64(b[i:], uint64(i)*0x9e3779b97f4a7c15)
	}
	return b
}

// writeLikeEncoder writes a share in blocks, its trees and then its header.
func writeLikeEncoder(u grid.Upload, share []byte) error {
	const header, block = 36, 700_001
	trees := len(share) / 4
	for off := header; off < len(share)-trees; off += block {
		if _, err := u.WriteAt(share[off:min(off+block, len(share)-trees)], int64(off)); err != nil {
			return err
		}
	}
	if _, err := u.WriteAt(share[len(share)-trees:], int64(len(share)-trees)); err != nil {
		return err
	}
	_, err := u.WriteAt(share[:header], 0)
	return err
}

// TestUpload looks at what is written, and by which requests.
func TestUpload(t *testing.T) {
	server := s3test.Start(t)
	p, url := through(t, server, bucket)
	s := open(t, url)
	for size, want := range map[int][]string{
		200_000:    {"GET bytes=0-11", "PUT *"},
		8<<20 - 84: {"GET bytes=0-11", "PUT *"},
		25_000_000: {
			"GET bytes=0-11", "POST uploads", "PUT partNumber uploadId", "PUT partNumber uploadId",
			"PUT partNumber uploadId", "POST uploadId *",
		},
		16<<20 - 12 - 40: { // the lease is divided
			"GET bytes=0-11", "POST uploads", "PUT partNumber uploadId", "PUT partNumber uploadId",
			"PUT partNumber uploadId", "POST uploadId *",
		},
		16<<20 - 12: { // the lease is a part of its own
			"GET bytes=0-11", "POST uploads", "PUT partNumber uploadId", "PUT partNumber uploadId",
			"PUT partNumber uploadId", "POST uploadId *",
		},
	} {
		si := gridtest.StorageIndex()
		p.asked()
		share := pattern(size)
		u, err := s.Create(t.Context(), si, 5, int64(size), gridtest.Lease(si))
		if err != nil {
			t.Fatal(err)
		}
		if err := writeLikeEncoder(u, share); err != nil {
			t.Fatal(err)
		}
		if err := u.Commit(); err != nil {
			t.Fatal(err)
		}
		if got := p.asked(); !slices.Equal(got, want) {
			t.Errorf("%d bytes are written by %q", size, got)
		}
		b := object(t, server, si, 5)
		if !bytes.Equal(b[:12], contain(2, 1, share)[:12]) || !bytes.Equal(b[12:12+size], share) || len(b) != 12+size+72 {
			t.Errorf("the container of %d bytes begins with %x", len(b), b[:12])
		}
		lease := b[12+size:]
		if binary.BigEndian.Uint32(lease) != 1 || bytes.Equal(lease[4:36], make([]byte, 32)) || bytes.Equal(lease[4:36], lease[36:68]) {
			t.Errorf("the lease is %x", lease)
		}
	}
	if keys := left(t, server); len(keys) != 5 || strings.Contains(strings.Join(keys, " "), "incomplete") {
		t.Errorf("left: %q", keys)
	}
}

// TestConcurrentParts writes the pieces of a share of several parts side by side.
func TestConcurrentParts(t *testing.T) {
	server := s3test.Start(t)
	server.Bucket(t, bucket)
	si, share := gridtest.StorageIndex(), pattern(40_000_000)
	u, err := open(t, server.URL(bucket)).Create(t.Context(), si, 0, int64(len(share)), gridtest.Lease(si))
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			const piece = 1_000_000
			for off := i * piece; off < len(share); off += 4 * piece {
				if _, err := u.WriteAt(share[off:min(off+piece, len(share))], int64(off)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if err := u.Commit(); err != nil {
		t.Fatal(err)
	}
	if b := object(t, server, si, 0); !bytes.Equal(b[12:12+len(share)], share) {
		t.Error("the share is not what was written")
	}
}

// TestAbort leaves nothing, whatever had been sent.
func TestAbort(t *testing.T) {
	server := s3test.Start(t)
	server.Bucket(t, bucket)
	s := open(t, server.URL(bucket))
	for _, size := range []int{100_000, 20_000_000} {
		si := gridtest.StorageIndex()
		ctx, cancel := context.WithCancel(t.Context())
		u, err := s.Create(ctx, si, 0, int64(size), gridtest.Lease(si))
		if err != nil {
			t.Fatal(err)
		}
		if err := writeLikeEncoder(u, make([]byte, size)); err != nil {
			t.Fatal(err)
		}
		cancel()
		if err := u.Commit(); !errors.Is(err, context.Canceled) {
			t.Errorf("Commit of a cancelled upload: %v", err)
		}
		if err := u.Abort(); err != nil {
			t.Error(err)
		}
	}
	if keys := left(t, server); len(keys) != 0 {
		t.Errorf("left: %q", keys)
	}
}

// TestBesideAnotherUpload: the first one to be committed stays, and nothing of the other.
func TestBesideAnotherUpload(t *testing.T) {
	server := s3test.Start(t)
	server.Bucket(t, bucket)
	for _, size := range []int{100_000, 20_000_000} {
		si := gridtest.StorageIndex()
		var uploads []grid.Upload
		for i := range 2 {
			u, err := open(t, server.URL(bucket)).Create(t.Context(), si, 0, int64(size), gridtest.Lease(si))
			if err != nil {
				t.Fatal(err)
			}
			if err := writeLikeEncoder(u, bytes.Repeat([]byte{byte('a' + i)}, size)); err != nil {
				t.Fatal(err)
			}
			uploads = append(uploads, u)
		}
		for _, u := range uploads {
			if err := u.Commit(); err != nil {
				t.Error(err)
			}
		}
		if b := object(t, server, si, 0); b[12] != 'a' || b[12+size-1] != 'a' {
			t.Errorf("the second upload of %d bytes took the first one's place", size)
		}
	}
	if keys := left(t, server); len(keys) != 2 {
		t.Errorf("left: %q", keys)
	}
}

// TestCommitUnsure: the server has done what it was asked, but the answer is lost.
func TestCommitUnsure(t *testing.T) {
	server := s3test.Start(t)
	p, url := through(t, server, bucket)
	s := open(t, url)
	for _, size := range []int{100_000, 20_000_000} {
		si := gridtest.StorageIndex()
		u, err := s.Create(t.Context(), si, 0, int64(size), gridtest.Lease(si))
		if err != nil {
			t.Fatal(err)
		}
		share := pattern(size)
		if err := writeLikeEncoder(u, share); err != nil {
			t.Fatal(err)
		}
		var once sync.Once
		p.intercept(func(w http.ResponseWriter, r *http.Request, forward http.Handler) {
			lost := false
			if r.Header.Get("If-None-Match") != "" {
				once.Do(func() { lost = true })
			}
			if !lost {
				forward.ServeHTTP(w, r)
				return
			}
			forward.ServeHTTP(swallow{http.Header{}}, r)
			cut(w)
		})
		if err := u.Commit(); err != nil {
			t.Error(err)
		}
		p.intercept(nil)
		if b := object(t, server, si, 0); !bytes.Equal(b[12:12+size], share) {
			t.Error("the share is not what was written")
		}
	}
	if keys := left(t, server); len(keys) != 2 {
		t.Errorf("left: %q", keys)
	}
}

// TestCommitUnconditional: a server that does not know the condition is asked without.
func TestCommitUnconditional(t *testing.T) {
	server := s3test.Start(t)
	p, url := through(t, server, bucket)
	p.intercept(func(w http.ResponseWriter, r *http.Request, forward http.Handler) {
		if r.Header.Get("If-None-Match") != "" {
			io.Copy(io.Discard, r.Body)
			w.WriteHeader(http.StatusNotImplemented)
			io.WriteString(w, "<Error><Code>NotImplemented</Code></Error>")
			return
		}
		forward.ServeHTTP(w, r)
	})
	s := open(t, url)
	for _, size := range []int{100_000, 20_000_000} {
		si := gridtest.StorageIndex()
		u, err := s.Create(t.Context(), si, 0, int64(size), gridtest.Lease(si))
		if err != nil {
			t.Fatal(err)
		}
		share := pattern(size)
		if err := errors.Join(writeLikeEncoder(u, share), u.Commit()); err != nil {
			t.Fatal(err)
		}
		if b := object(t, server, si, 0); !bytes.Equal(b[12:12+size], share) {
			t.Error("the share is not what was written")
		}
	}
}

// TestRoundTrips counts them: they are what a far server costs.
func TestRoundTrips(t *testing.T) {
	server := s3test.Start(t)
	p, url := through(t, server, bucket)
	si, share := gridtest.StorageIndex(), pattern(100_000)
	hold(t, server, si, 0, contain(1, 2, share))
	hold(t, server, si, 3, contain(2, 1, share))
	s := open(t, url)
	if nums, err := s.Shares(t.Context(), si); err != nil || !slices.Equal(nums, []int{0, 3}) {
		t.Errorf("%v, %v", nums, err)
	}
	if got := p.asked(); !slices.Equal(got, []string{"GET list-type"}) {
		t.Errorf("Shares: %q", got)
	}
	for name, test := range map[string]struct {
		off, length int
		want        []string
	}{
		"beginning":   {0, 1000, []string{"GET bytes=0-1011"}},
		"near it":     {100, 1000, []string{"GET bytes=0-1111"}},
		"all":         {0, 100_000, []string{"GET bytes=0-100011"}},
		"past it":     {0, 100_001, []string{"GET bytes=0-100012"}},
		"the middle":  {50_000, 1000, []string{"GET bytes=0-11", "GET bytes=50012-51011"}},
		"the end":     {99_990, 100, []string{"GET bytes=0-11", "GET bytes=100002-100011"}},
		"the leases":  {100_000, 10, []string{"GET bytes=0-11"}},
		"far outside": {1 << 40, 10, []string{"GET bytes=0-11"}},
	} {
		sh, err := s.Open(t.Context(), si, 0)
		if err != nil {
			t.Fatal(err)
		}
		for again := range 2 {
			buf := make([]byte, test.length)
			want := share[min(test.off, len(share)):min(test.off+test.length, len(share))]
			n, err := sh.ReadAt(t.Context(), int64(test.off), buf)
			if n != len(want) || !bytes.Equal(buf[:n], want) || (err == io.EOF) != (n < test.length) || err != nil && err != io.EOF {
				t.Errorf("%s: %d bytes, %v", name, n, err)
			}
			if rest := buf[n:]; !bytes.Equal(rest, make([]byte, len(rest))) {
				t.Errorf("%s: bytes behind the share are touched", name)
			}
			got := p.asked()
			if again == 0 && !slices.Equal(got, test.want) {
				t.Errorf("%s: %q", name, got)
			}
			if limit := min(1, n); again == 1 && len(got) != limit {
				t.Errorf("%s, again: %q", name, got)
			}
		}
		if sh.Size() != int64(len(share)) {
			t.Errorf("the size is %d", sh.Size())
		}
		sh.Close()
	}
}

// TestContainers reads what is no good container as such.
func TestContainers(t *testing.T) {
	server := s3test.Start(t)
	server.Bucket(t, bucket)
	s := open(t, server.URL(bucket))
	share := pattern(100)
	for name, test := range map[string]struct {
		object []byte
		size   int64 // -1: corrupt
	}{
		"v1":              {contain(1, 0, share), 100},
		"v2":              {contain(2, 1, share), 100},
		"length ignored":  {append(contain(2, 1, nil), share...), 100},
		"nothing in it":   {contain(2, 0, nil), 0},
		"leases alone":    {contain(1, 3, nil), 0},
		"too many leases": {contain(2, 3, nil)[:200], -1},
		"version 0":       {contain(0, 0, share), -1},
		"version 3":       {contain(3, 0, share), -1},
		"empty":           {nil, -1},
		"short":           {contain(2, 0, nil)[:11], -1},
		"mutable":         {append([]byte("Tahoe mutable container v1\n\x75\x09\x44\x03\x8e"), make([]byte, 500)...), -1},
	} {
		for _, off := range []int64{0, 50, 10_000} {
			si := gridtest.StorageIndex()
			hold(t, server, si, 0, test.object)
			sh, err := s.Open(t.Context(), si, 0)
			if err != nil {
				t.Fatal(err)
			}
			n, err := sh.ReadAt(t.Context(), off, make([]byte, 101))
			switch {
			case test.size >= 0 && (err != io.EOF || int64(n) != max(0, test.size-off) || sh.Size() != test.size):
				t.Errorf("%s: from %d: %d bytes, %v, size %d", name, off, n, err, sh.Size())
			case test.size < 0 && (n != 0 || !errors.Is(err, grid.ErrCorrupt)):
				t.Errorf("%s: from %d: %d bytes, %v", name, off, n, err)
			}
			if _, err := s.Create(t.Context(), si, 0, 100, gridtest.Lease(si)); !errors.Is(err, fs.ErrExist) {
				t.Errorf("%s: Create beside it: %v", name, err)
			}
		}
	}
}

// TestForeignNames lists what else may stand beside shares, more of it than one list holds.
func TestForeignNames(t *testing.T) {
	server := s3test.Start(t)
	server.Bucket(t, bucket)
	si := gridtest.StorageIndex()
	c := server.Client(t)
	names := []string{"0", "255", "256", "-1", "+2", "03", "3.tmp", "x", "1e1", "99999999999999999999", "7/inner", " 4"}
	for i := range 1000 {
		names = append(names, fmt.Sprintf("100-%d", i))
	}
	var wg sync.WaitGroup
	for some := range slices.Chunk(names, 130) {
		wg.Go(func() {
			for _, name := range some {
				if _, err := c.PutObject(t.Context(), bucket, strings.TrimSuffix(objectKey(si, 0), "0")+name, strings.NewReader("x"), 1, minio.PutObjectOptions{}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	nums, err := open(t, server.URL(bucket)).Shares(t.Context(), si)
	if slices.Sort(nums); err != nil || !slices.Equal(nums, []int{0, 255}) {
		t.Errorf("%v, %v", nums, err)
	}
}

// all makes every kind of call and returns the errors.
func all(t *testing.T, s *s3.Server, si grid.StorageIndex) map[string]error {
	errs := map[string]error{}
	_, errs["Shares"] = s.Shares(t.Context(), si)
	sh, err := s.Open(t.Context(), si, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, errs["ReadAt"] = sh.ReadAt(t.Context(), 0, make([]byte, 10))
	_, errs["Create"] = s.Create(t.Context(), si, 0, 10, gridtest.Lease(si))
	return errs
}

// TestRefused: what a server refuses is told, and no secret is.
func TestRefused(t *testing.T) {
	server := s3test.Start(t)
	server.Bucket(t, bucket)
	si := gridtest.StorageIndex()
	gridtest.Write(t, open(t, server.URL(bucket)), si, 0, []byte("a share"))
	profiles := filepath.Join(t.TempDir(), "credentials")
	if err := os.WriteFile(profiles, fmt.Appendf(nil, "[default]\naws_access_key_id = nobody\naws_secret_access_key = nothing\n[tests]\naws_access_key_id = %s\naws_secret_access_key = %s\n",
		s3test.AccessKey, s3test.SecretKey), 0o600); err != nil {
		t.Fatal(err)
	}
	none := map[string]string{"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
	for name, test := range map[string]struct {
		env    map[string]string
		bucket string
		want   string // "": no error
	}{
		"wrong secret": {map[string]string{"AWS_SECRET_ACCESS_KEY": "another-secret-of-nobody"}, bucket, "refuses the AWS credentials"},
		// AWS: 403 InvalidAccessKeyId
		"wrong key":      {map[string]string{"AWS_ACCESS_KEY_ID": "another-key-of-nobody"}, bucket, "404 XAdminUserNotFound"},
		"none":           {none, bucket, "no AWS credentials"},
		"missing bucket": {nil, "nobody-made-this", "no such bucket"},
		"profile":        {map[string]string{"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_SHARED_CREDENTIALS_FILE": profiles, "AWS_PROFILE": "tests"}, bucket, ""},
		"other profile":  {map[string]string{"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_SHARED_CREDENTIALS_FILE": profiles}, bucket, "404 XAdminUserNotFound"},
	} {
		t.Run(name, func(t *testing.T) {
			for name, value := range test.env {
				t.Setenv(name, value)
			}
			s := open(t, server.URL(test.bucket))
			for call, err := range all(t, s, si) {
				if test.want == "" {
					if err != nil && !errors.Is(err, fs.ErrExist) && err != io.EOF {
						t.Errorf("%s: %v", call, err)
					}
					continue
				}
				if err == nil || !strings.Contains(err.Error(), test.want) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrExist) || errors.Is(err, io.EOF) {
					t.Errorf("%s: %v", call, err)
				}
				for _, secret := range []string{s3test.SecretKey, s3test.AccessKey, "nobody", "Signature="} {
					if err != nil && strings.Contains(err.Error(), secret) && test.bucket == bucket {
						t.Errorf("%s tells a secret: %v", call, err)
					}
				}
			}
		})
	}
}

// TestReadFaults: whatever a server answers but the right thing is an error that
// does not look like the share's end, and the next request is none the worse.
func TestReadFaults(t *testing.T) {
	server := s3test.Start(t)
	p, url := through(t, server, bucket)
	si, share := gridtest.StorageIndex(), pattern(1000)
	hold(t, server, si, 0, contain(2, 1, share))
	s := open(t, url)
	status := func(code int, name string) func(w http.ResponseWriter) {
		return func(w http.ResponseWriter) {
			w.Header().Set("Location", "https://example.invalid/")
			w.WriteHeader(code)
			io.WriteString(w, "<Error><Code>"+name+"</Code><Message>"+strings.Repeat("sorry ", 3000)+"</Message></Error>")
		}
	}
	send := func(contentRange, length, body string) func(w http.ResponseWriter) {
		return func(w http.ResponseWriter) { part(w, contentRange, length, body) }
	}
	for name, test := range map[string]struct {
		answer func(w http.ResponseWriter)
		want   string
	}{
		"redirect":         {status(301, "PermanentRedirect"), "301 PermanentRedirect"},
		"bad request":      {status(400, "AuthorizationHeaderMalformed"), "400 AuthorizationHeaderMalformed"},
		"odd code":         {status(400, "evil\x1b[31mcode"), "400"},
		"archived":         {status(403, "InvalidObjectState"), "403 InvalidObjectState"},
		"range":            {status(416, "InvalidRange"), "416 InvalidRange"},
		"busy":             {status(503, "SlowDown"), "503 SlowDown"},
		"no object":        {func(w http.ResponseWriter) { w.Header().Set("Last-Modified", "yesterday"); w.WriteHeader(206) }, "cannot be read"},
		"no XML":           {func(w http.ResponseWriter) { w.WriteHeader(502) }, "502"},
		"no Content-Range": {send("", "10", "0123456789"), "no part"},
		"other unit":       {send("items 22-31/1084", "10", "0123456789"), "readable"},
		"no number":        {send("bytes 22-/1084", "10", "0123456789"), "readable"},
		"unknown total":    {send("bytes 22-31/*", "10", "0123456789"), "readable"},
		"elsewhere":        {send("bytes 23-32/1084", "10", "0123456789"), "asked for 22 to 31"},
		"more":             {send("bytes 22-32/1084", "11", "0123456789a"), "asked for 22 to 31"},
		"less":             {send("bytes 22-30/1084", "9", "012345678"), "asked for 22 to 31"},
		"shrunk":           {send("bytes 22-24/25", "3", "012"), "shrunk"},
		"cut":              {send("bytes 22-31/1084", "10", "012"), "cut the connection"},
		"cut at once":      {cut, "cut the connection"},
		"stream ends": {func(w http.ResponseWriter) {
			part(w, "bytes 22-31/1084", "", "012")
			w.(http.Flusher).Flush()
			cut(w)
		}, "cut the connection"},
	} {
		sh, err := s.Open(t.Context(), si, 0)
		if err != nil {
			t.Fatal(err)
		}
		read := func() error {
			buf := make([]byte, 10)
			n, err := sh.ReadAt(t.Context(), 10, buf)
			if err == nil && (n != 10 || !bytes.Equal(buf, share[10:20])) {
				err = fmt.Errorf("read %q", buf[:n])
			}
			return err
		}
		if err := read(); err != nil {
			t.Fatal(err)
		}
		p.intercept(func(w http.ResponseWriter, _ *http.Request, _ http.Handler) { test.answer(w) })
		err = read()
		if err == nil || !strings.Contains(err.Error(), test.want) || strings.ContainsRune(err.Error(), '\x1b') {
			t.Errorf("%s: %v", name, err)
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, grid.ErrCorrupt) {
			t.Errorf("%s looks like the share's fault: %v", name, err)
		}
		p.intercept(nil)
		if err := read(); err != nil {
			t.Errorf("after %s: %v", name, err)
		}
	}
}

// TestCancel: a call whose context ends returns, whatever the server does.
func TestCancel(t *testing.T) {
	server := s3test.Start(t)
	p, url := through(t, server, bucket)
	si := gridtest.StorageIndex()
	hold(t, server, si, 0, contain(2, 1, pattern(1000)))
	s := open(t, url)
	why := errors.New("the test's reason")
	for name, silence := range map[string]func(w http.ResponseWriter){
		"no answer": func(http.ResponseWriter) {},
		"half an answer": func(w http.ResponseWriter) {
			part(w, "bytes 0-1011/1084", "1012", string(contain(2, 1, pattern(100))))
			w.(http.Flusher).Flush()
		},
	} {
		ctx, cancel := context.WithCancelCause(t.Context())
		p.intercept(func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
			silence(w)
			cancel(why)
			<-r.Context().Done()
		})
		sh, err := s.Open(t.Context(), si, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := sh.ReadAt(ctx, 0, make([]byte, 1000)); !errors.Is(err, why) {
			t.Errorf("%s: %v", name, err)
		}
		p.intercept(nil)
		if n, err := sh.ReadAt(t.Context(), 0, make([]byte, 1000)); n != 1000 || err != nil {
			t.Errorf("after %s: %d, %v", name, n, err)
		}
	}
}

// TestConnections: sixteen at most, which are used again.
func TestConnections(t *testing.T) {
	server := s3test.Start(t)
	p, url := through(t, server, bucket)
	si, share := gridtest.StorageIndex(), pattern(100_000)
	hold(t, server, si, 0, contain(2, 1, share))
	s := open(t, url)
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			sh, err := s.Open(t.Context(), si, 0)
			if err != nil {
				t.Error(err)
				return
			}
			for range 5 {
				if n, err := sh.ReadAt(t.Context(), 0, make([]byte, len(share)+1)); n != len(share) || err != io.EOF {
					t.Errorf("%d, %v", n, err)
				}
			}
		})
	}
	wg.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.most > 16 {
		t.Errorf("%d connections at a time", p.most)
	}
}

// TestClosedConnections: one that the server closed while nobody used it costs a read nothing.
func TestClosedConnections(t *testing.T) {
	server := s3test.Start(t)
	p, url := through(t, server, bucket)
	si := gridtest.StorageIndex()
	hold(t, server, si, 0, contain(2, 1, pattern(1000)))
	s := open(t, url)
	sh, err := s.Open(t.Context(), si, 0)
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if n, err := sh.ReadAt(t.Context(), 0, make([]byte, 1000)); n != 1000 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
		p.CloseClientConnections()
	}
}

// TestGone: a server that dies is told as one, and not as a share's end.
func TestGone(t *testing.T) {
	server := s3test.Start(t)
	server.Bucket(t, bucket)
	si := gridtest.StorageIndex()
	s := open(t, server.URL(bucket))
	gridtest.Write(t, s, si, 0, []byte("a share"))
	server.Kill()
	for call, err := range all(t, s, si) {
		var refused *net.OpError
		if err == nil || errors.Is(err, fs.ErrNotExist) || errors.Is(err, io.EOF) || !errors.As(err, &refused) && !strings.Contains(err.Error(), "cut") {
			t.Errorf("%s: %v", call, err)
		}
	}
}

// TestUntrusted: a certificate of nobody's is refused.
func TestUntrusted(t *testing.T) {
	server := s3test.Start(t, certificate, key)
	_, port, err := net.SplitHostPort(server.Host)
	if err != nil {
		t.Fatal(err)
	}
	si := gridtest.StorageIndex()
	// the certificate is of 127.0.0.1
	s := open(t, "s3://"+bucket+"?endpoint=https://localhost:"+port+"&region="+s3test.Region)
	for call, err := range all(t, s, si) {
		if err == nil || !strings.Contains(err.Error(), "certificate") {
			t.Errorf("%s: %v", call, err)
		}
	}
}

func TestParse(t *testing.T) {
	for text, want := range map[string]string{ // "": an error
		"s3://bucket":  "s3://bucket",
		"s3://bucket/": "s3://bucket",
		"s3://bucket/a/b%20c/?region=eu-central-1":                   "s3://bucket/a/b%20c?region=eu-central-1",
		"s3://bucket?region=r&endpoint=https%3A%2F%2Fhost%3A9000%2F": "s3://bucket?endpoint=https://host:9000&region=r",
		"s3://my.bucket/p?endpoint=http://[::1]:9000":                "s3://my.bucket/p?endpoint=http://[::1]:9000",
		"s3://":                         "",
		"s3:bucket":                     "",
		"s3://Bucket_1":                 "",
		"s3://bucket:80":                "",
		"s3://bucket/a//b":              "",
		"s3://bucket/../b":              "",
		"s3://bucket#fragment":          "",
		"s3://hiDDen:hiDDen@bucket":     "",
		"s3://hiDDen@bucket":            "",
		"s3://bucket?access-key=hiDDen": "",
		"s3://bucket?endpoint=https://hiDDen:hiDDen@host":         "",
		"s3://bucket?endpoint=https://host/hiDDen":                "",
		"s3://bucket?endpoint=https://host?hiDDen":                "",
		"s3://bucket?endpoint=host:9000":                          "",
		"s3://bucket?endpoint=ftp://host":                         "",
		"s3://bucket?endpoint=https://host&endpoint=https://host": "",
		"s3://bucket?endpoint=":                                   "",
		"s3://bucket?region=":                                     "",
		"s3://bucket?region=hiDDen+hiDDen":                        "",
		"s3://bucket?%zz":                                         "",
	} {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		s, err := s3.Parse(u)
		switch {
		case err == nil && s.String() != want:
			t.Errorf("%s: %v, want %q", text, s, want)
		case err == nil && fmt.Sprint(open(t, s.String())) != want:
			t.Errorf("%s: the server's name is no URL of it", text)
		case err != nil && (want != "" || strings.Contains(err.Error(), "hiDDen")):
			t.Errorf("%s: %v", text, err)
		}
	}
}
