package s3

import (
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/minio/minio-go/v7/pkg/credentials"
)

const (
	keysTimeout = 10 * time.Second // for each question to those who give out credentials
	keysPause   = 5 * time.Minute  // until credentials are looked for again where there are none
)

// keychain finds the credentials that AWS's programs would find. Other than minio-go's Chain it
// remembers that there are none. credentials.Credentials guards it by its mutex.
type keychain struct {
	credentials.Chain
	again time.Time   // when to look again; zero while there are credentials
	none  atomic.Bool // the last look found nothing
}

func newKeychain() *keychain {
	providers := []credentials.Provider{&credentials.EnvAWS{}, &credentials.FileAWSCredentials{}}
	given := os.Getenv("AWS_WEB_IDENTITY_TOKEN_FILE") + os.Getenv("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI") + os.Getenv("AWS_CONTAINER_CREDENTIALS_FULL_URI")
	if given != "" || !strings.EqualFold(os.Getenv("AWS_EC2_METADATA_DISABLED"), "true") {
		providers = append(providers, &credentials.IAM{Client: &http.Client{Timeout: keysTimeout}})
	}
	return &keychain{Chain: credentials.Chain{Providers: providers}}
}

// RetrieveWithCredContext looks for credentials; there being none is no error.
func (k *keychain) RetrieveWithCredContext(cc *credentials.CredContext) (credentials.Value, error) {
	value, err := k.Chain.RetrieveWithCredContext(cc)
	none := err == nil && value.AccessKeyID == ""
	k.none.Store(none)
	k.again = time.Time{}
	if none {
		k.again = time.Now().Add(keysPause)
	}
	return value, err
}

// IsExpired says whether to look for credentials anew.
func (k *keychain) IsExpired() bool {
	if !k.again.IsZero() {
		return time.Now().After(k.again)
	}
	return k.Chain.IsExpired()
}
