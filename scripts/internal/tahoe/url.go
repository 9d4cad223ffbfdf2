package tahoe

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
)

// URL returns the pb:// URL of the storage node with that storage directory. It contains a secret.
func URL(storage string) (string, error) {
	private := filepath.Join(filepath.Dir(storage), "private")
	furl, err := os.ReadFile(filepath.Join(private, "storage.furl"))
	if err != nil {
		return "", err
	}
	certificate, err := os.ReadFile(filepath.Join(private, "node.pem"))
	if err != nil {
		return "", err
	}
	key, err := keyOf(certificate)
	if err != nil {
		return "", err
	}
	_, place, ok := strings.Cut(strings.TrimSpace(string(furl)), "@")
	if !ok {
		return "", errors.New("storage.furl holds no address")
	}
	return "pb://" + key + "@" + place + "#v=1", nil
}

// keyOf returns the key by which URLs name the node whose node.pem that is.
func keyOf(rest []byte) (string, error) {
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return "", errors.New("node.pem holds no certificate")
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return "", err
		}
		hash := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
		return base64.RawURLEncoding.EncodeToString(hash[:]), nil
	}
}
