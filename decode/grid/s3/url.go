package s3

import (
	"errors"
	"net/url"
	"os"
	"regexp"
	"strings"

	"github.com/minio/minio-go/v7/pkg/s3utils"
)

// location is what a server's URL says: s3://BUCKET/PREFIX?endpoint=URL&region=NAME.
type location struct {
	bucket   string
	prefix   string // of all keys: empty, or ending in a slash
	endpoint string // host, or host:port
	insecure bool   // the endpoint is spelt out as http://
	region   string // empty: as the environment says, else the server is asked for it
	text     string // the URL, in one spelling
}

const (
	form   = "it must be s3://BUCKET/PREFIX?endpoint=https://HOST:PORT&region=REGION"
	amazon = "s3.amazonaws.com"
)

var (
	regionName = regexp.MustCompile(`^[A-Za-z0-9-]{1,64}$`)
	hostName   = regexp.MustCompile(`^([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?$`)
)

// parse checks a URL. The error quotes nothing of it: a secret may have got into it by mistake.
func parse(u *url.URL) (location, error) {
	if u.User != nil {
		return location{}, errors.New("credentials have no place in the URL of an S3 bucket; they are taken from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or as AWS's own programs take them")
	}
	l := location{bucket: u.Host, prefix: strings.Trim(u.Path, "/"), endpoint: amazon}
	if u.Scheme != "s3" || u.Opaque != "" || u.Fragment != "" || s3utils.CheckValidBucketNameStrict(l.bucket) != nil {
		return location{}, errors.New(form)
	}
	if l.prefix != "" {
		for part := range strings.SplitSeq(l.prefix, "/") {
			if part == "" || part == "." || part == ".." {
				return location{}, errors.New("the prefix has an empty part, or one of dots")
			}
		}
		l.prefix += "/"
		if s3utils.CheckValidObjectName(l.prefix) != nil {
			return location{}, errors.New("the prefix is none that S3 takes")
		}
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return location{}, errors.New(form)
	}
	endpoint, region := query["endpoint"], query["region"]
	if len(endpoint) > 1 || len(region) > 1 || len(query) != len(endpoint)+len(region) {
		return location{}, errors.New("endpoint and region are the only parameters that the URL of an S3 bucket has, each once; credentials are taken from the environment")
	}
	spelling := url.URL{Scheme: "s3", Host: l.bucket, Path: "/" + strings.TrimSuffix(l.prefix, "/")}
	if spelling.Path == "/" {
		spelling.Path = ""
	}
	var parameters []string
	if len(endpoint) > 0 {
		if err := l.setEndpoint(endpoint[0]); err != nil {
			return location{}, err
		}
		scheme := "https"
		if l.insecure {
			scheme = "http"
		}
		parameters = append(parameters, "endpoint="+scheme+"://"+l.endpoint)
	}
	if len(region) > 0 {
		if l.region = region[0]; !regionName.MatchString(l.region) {
			return location{}, errors.New("the region is no name of one")
		}
		parameters = append(parameters, "region="+l.region)
	}
	spelling.RawQuery = strings.Join(parameters, "&")
	l.text = spelling.String()
	if l.region == "" {
		l.region = os.Getenv("AWS_REGION")
	}
	if l.region == "" {
		l.region = os.Getenv("AWS_DEFAULT_REGION")
	}
	return l, nil
}

func (l *location) setEndpoint(text string) error {
	e, err := url.Parse(text)
	if err != nil || e.User != nil || (e.Scheme != "https" && e.Scheme != "http") || (e.Path != "" && e.Path != "/") ||
		e.RawQuery != "" || e.ForceQuery || e.Fragment != "" || e.Opaque != "" || !hostName.MatchString(e.Host) {
		return errors.New("the endpoint must be https://HOST or https://HOST:PORT, with nothing behind it")
	}
	l.endpoint, l.insecure = e.Host, e.Scheme == "http"
	return nil
}
