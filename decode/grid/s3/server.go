// Package s3 reads and writes shares in a bucket of an S3 server. A bucket, or a prefix
// in one, is one storage server. It holds what the storage directory of a Tahoe-LAFS storage server
// holds, each file as an object: shares are found at
// PREFIX/shares/<first 2 characters of SI>/<SI>/<number>, each in its container. So a storage
// directory can be copied into a bucket, and back.
package s3

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"spillway/decode/grid"
	"spillway/decode/grid/container"
)

const (
	maxConnections = 16 // to one server; further requests wait for one
	idleTimeout    = 45 * time.Second
	dialTimeout    = 10 * time.Second // and again for TLS
	abortTimeout   = 10 * time.Second
	bufferBytes    = 16 << 10 // of a connection, each way: one TLS record
	maxHeader      = 64 << 10 // bytes of an answer's header
	// maxDiscard: of an unwanted body that is read so that its connection can be used again.
	maxDiscard = 4 << 10
	tries      = 5 // of a request that writes
)

// Server is one bucket, or a prefix in one. It keeps up to sixteen connections for 45 seconds
// after their last use, each with two buffers of 16 KiB, and a few kilobytes besides.
type Server struct {
	location  location
	transport *http.Transport
	keys      *keychain
	reader    minio.Core // tries once: who reads knows of other shares
	writer    minio.Core // tries again, with pauses of up to a second

	mu       sync.Mutex
	underWay map[string]bool // keys of the uploads of this process
}

// Parse returns the Server that a URL names: s3://BUCKET/PREFIX?endpoint=URL&region=NAME. The
// endpoint is https://HOST:PORT, or http:// where that is meant; without one it is Amazon's. The
// region is, if the URL says none, that of AWS_REGION or AWS_DEFAULT_REGION, else the server is
// asked for it once. Credentials come from the environment, as AWS's own programs take them:
// AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_SESSION_TOKEN), the files of AWS_PROFILE,
// the container, the machine; without any, requests are anonymous. Parse connects to nothing yet.
// The error does not quote the URL.
func Parse(u *url.URL) (*Server, error) {
	l, err := parse(u)
	if err != nil {
		return nil, err
	}
	s := &Server{location: l, keys: newKeychain(), underWay: map[string]bool{}}
	s.transport = &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: dialTimeout}).DialContext,
		Protocols:              new(http.Protocols),
		TLSHandshakeTimeout:    dialTimeout,
		DisableCompression:     true,
		MaxConnsPerHost:        maxConnections,
		MaxIdleConnsPerHost:    maxConnections,
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: maxHeader,
		ReadBufferSize:         bufferBytes,
		WriteBufferSize:        bufferBytes,
	}
	// one connection of HTTP/2 for all would be the bottleneck of a long way
	s.transport.Protocols.SetHTTP1(true)
	for core, retries := range map[*minio.Core]int{&s.reader: 1, &s.writer: tries} {
		core.Client, err = minio.New(l.endpoint, &minio.Options{
			Creds: credentials.New(s.keys), Secure: !l.insecure, Region: l.region, Transport: roundTripper{s.transport}, MaxRetries: retries,
		})
		if err != nil {
			return nil, errors.New("the endpoint is none that S3 has")
		}
	}
	return s, nil
}

// String returns the server's URL, which holds no secret.
func (s *Server) String() string { return s.location.text }

// Close closes the connections, which are idle by now.
func (s *Server) Close() error {
	s.transport.CloseIdleConnections()
	return nil
}

// key returns the key of a share's object.
func (s *Server) key(si grid.StorageIndex, num int) string {
	return s.slot(si) + strconv.Itoa(num)
}

// slot is what the keys of si's shares begin with.
func (s *Server) slot(si grid.StorageIndex) string {
	return s.location.prefix + "shares/" + container.Slot(si) + "/"
}

// Shares lists the share numbers of si. Names that are no share numbers are ignored.
func (s *Server) Shares(ctx context.Context, si grid.StorageIndex) ([]int, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	slot, owner := s.slot(si), false
	var nums []int
	for object := range s.reader.ListObjectsIter(ctx, s.location.bucket, minio.ListObjectsOptions{Prefix: slot, FetchOwner: &owner}) {
		if object.Err != nil {
			return nil, s.failure(ctx, object.Err)
		}
		if num, ok := container.ParseNumber(strings.TrimPrefix(object.Key, slot)); ok {
			nums = append(nums, num)
		}
	}
	// A list that was broken off looks like one that ends.
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return nums, nil
}

// roundTripper is the transport, whose errors reach us through minio-go, which makes
// text of some of them.
type roundTripper struct{ *http.Transport }

func (t roundTripper) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := t.Transport.RoundTrip(req)
	return resp, cutError(err)
}

// errCut stands for the end of a stream where there should have been more. It
// must not match io.EOF or io.ErrUnexpectedEOF, which mean that a share ends.
var errCut = errors.New("the server cut the connection")

func cutError(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errCut
	}
	return err
}

// failure makes of an error of minio-go one that callers can tell from the others and that
// says what to do about it.
func (s *Server) failure(ctx context.Context, err error) error {
	var answer minio.ErrorResponse
	var request *url.Error
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.As(err, &answer):
		r := refusal{status: answer.StatusCode}
		if codeName.MatchString(answer.Code) {
			r.code = answer.Code
		}
		r.anonymous = s.keys.none.Load() && (r.status == http.StatusForbidden || r.status == http.StatusUnauthorized)
		return r
	case errors.As(err, &request):
		err = request.Err // without the URL, which the caller names in a shorter way
	}
	return cutError(err)
}

var codeName = regexp.MustCompile(`^[A-Za-z0-9.]{1,64}$`)

// refusal is an answer that is not the wanted one.
type refusal struct {
	status    int    // 0: there is none that minio-go could read
	code      string // S3's name for the reason, if the server gives one
	anonymous bool   // the request carried no credentials
}

func (r refusal) Error() string {
	answer := strings.TrimSpace(strconv.Itoa(r.status) + " " + r.code)
	switch {
	case r.status == 0:
		return "the server's answer cannot be read"
	case r.anonymous:
		return "there are no AWS credentials in the environment, and the server asks for some (" + answer + ")"
	case r.status == http.StatusForbidden && (r.code == minio.SignatureDoesNotMatch || r.code == minio.InvalidAccessKeyID):
		return "the server refuses the AWS credentials of the environment (" + answer + ")"
	case r.status == http.StatusForbidden:
		return "the server forbids it to the AWS credentials of the environment (" + answer + ")"
	case r.code == minio.NoSuchBucket:
		return "there is no such bucket (" + answer + ")"
	case r.Is(fs.ErrNotExist):
		return "the server does not have it (" + answer + ")"
	}
	return "the server answered " + answer
}

// Brief makes a refusal a grid.BriefError.
func (r refusal) Brief() string {
	if r.status == 0 {
		return "answered nothing that can be read"
	}
	return "answered " + strconv.Itoa(r.status)
}

// Is makes a missing object match fs.ErrNotExist. Other things may be missing that say nothing of
// it: the bucket, or, with some servers, the user.
func (r refusal) Is(target error) bool {
	return target == fs.ErrNotExist && r.status == http.StatusNotFound && r.code == minio.NoSuchKey
}

// occupied says that an object of that name is there, or is coming: a condition does not hold.
func (r refusal) occupied() bool {
	return r.status == http.StatusPreconditionFailed || r.status == http.StatusConflict
}
