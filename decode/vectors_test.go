package decode_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"spillway/decode/caps"
	"spillway/decode/decodetest"
	"spillway/decode/fleet"
	"spillway/decode/grid/dir"
)

// TestFixtures reads what real Tahoe-LAFS wrote, with all shares and with every
// one of the servers missing in turn.
func TestFixtures(t *testing.T) {
	published := decodetest.Shared(t, "fixtures")
	text, err := os.ReadFile(filepath.Join(published, "manifest.json"))
	if err != nil {
		t.Fatal(err)
	}
	var manifest []struct{ Name, Cap, SHA256 string }
	if err := json.Unmarshal(text, &manifest); err != nil {
		t.Fatal(err)
	}
	var servers []fleet.Server
	for i := range 5 {
		path, err := filepath.Abs(filepath.Join(published, "storage", "s"+strconv.Itoa(i)))
		if err != nil {
			t.Fatal(err)
		}
		servers = append(servers, fleet.Server{Server: dir.New(path)})
	}
	client := newClient(t, config{Servers: servers})
	for _, m := range manifest {
		t.Run(m.Name, func(t *testing.T) {
			c, err := caps.Parse(m.Cap)
			if err != nil {
				t.Fatal(err)
			}
			data, literal := c.Literal()
			if !literal {
				if data, err = decodetest.Get(t.Context(), client, c); err != nil {
					t.Fatal(err)
				}
			}
			if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != m.SHA256 {
				t.Error("wrong bytes")
			}
			if literal {
				return
			}
			report, err := client.Check(t.Context(), decodetest.Verifier(t, c))
			if err != nil || !report.Healthy {
				t.Errorf("check: %+v, %v", report, err)
			}
			for _, s := range report.Shares {
				if !s.Good {
					t.Errorf("check: %+v", s)
				}
			}
		})
	}
}
