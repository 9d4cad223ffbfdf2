package decode_test

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"spillway/decode"
	"spillway/decode/caps"
)

// shared returns a path below the directory of published material beside the
// checkout, and skips the test where there is none.
func shared(t *testing.T, name string) string {
	t.Helper()
	path := filepath.Join("..", "..", "shared", name)
	if _, err := os.Stat(path); err != nil {
		if os.Getenv("SPILLWAY_NO_SKIP") == "1" {
			t.Fatalf("%v, and SPILLWAY_NO_SKIP=1 forbids skipping", err)
		}
		t.Skipf("skipped: it needs the published material in %s beside the checkout", filepath.Join("..", "shared", name))
	}
	return path
}

// TestVectors writes every published case and reads it back. The cap commits to
// every byte of every share.
func TestVectors(t *testing.T) {
	file, err := os.Open(shared(t, "vectors/chk.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	lines := bufio.NewScanner(file)
	count := 0
	for lines.Scan() {
		var v struct {
			Convergence, Seed []byte
			Length            int
			K, N              int
			MaxSegmentSize    int64 `json:"max_segment_size"`
			Cap               string
		}
		if err := json.Unmarshal(lines.Bytes(), &v); err != nil {
			t.Fatal(err)
		}
		count++
		t.Run(fmt.Sprintf("%d-of-%d/%d", v.K, v.N, v.Length), func(t *testing.T) {
			data := bytes.Repeat(v.Seed, v.Length/len(v.Seed)+1)[:v.Length]
			servers := newGrid(1)
			c := put(t, servers, data, decode.PutOptions{K: v.K, N: v.N, SegmentSize: v.MaxSegmentSize, Convergence: v.Convergence})
			if c.Reveal() != v.Cap {
				t.Fatalf("the cap is %s and should be %s", c.Reveal(), v.Cap)
			}
			si := storageIndex(t, c)
			all := servers[0].shares[si]
			if len(all) != v.N {
				t.Fatalf("%d shares", len(all))
			}
			choices := map[string][]int{
				"primary": random.Perm(v.K),
				"random":  random.Perm(v.N)[:v.K],
			}
			for num := range v.K { // the last ones: no primary among them if n-k >= k
				choices["last"] = append(choices["last"], v.N-1-num)
			}
			for name, nums := range choices {
				some := newGrid(1)
				some[0].shares[si] = map[int][]byte{}
				for _, num := range nums {
					some[0].shares[si][num] = all[num]
				}
				got, err := get(t.Context(), newClient(t, decode.Config{Servers: asServers(some)}), c)
				if err != nil {
					t.Errorf("%s: %v", name, err)
				} else if !bytes.Equal(got, data) {
					t.Errorf("%s: wrong bytes", name)
				}
			}
		})
	}
	if lines.Err() != nil || count != 60 {
		t.Errorf("%d cases (%v)", count, lines.Err())
	}
}

// TestFixtures reads what real Tahoe-LAFS wrote, with all shares and with every
// one of the servers missing in turn.
func TestFixtures(t *testing.T) {
	dir := shared(t, "fixtures")
	text, err := os.ReadFile(filepath.Join(dir, "manifest.json"))
	if err != nil {
		t.Fatal(err)
	}
	var manifest []struct{ Name, Cap, SHA256 string }
	if err := json.Unmarshal(text, &manifest); err != nil {
		t.Fatal(err)
	}
	var servers []decode.Server
	for i := range 5 {
		path, err := filepath.Abs(filepath.Join(dir, "storage", "s"+strconv.Itoa(i)))
		if err != nil {
			t.Fatal(err)
		}
		server, err := decode.ParseServer("file://" + path)
		if err != nil {
			t.Fatal(err)
		}
		servers = append(servers, server)
	}
	client := newClient(t, decode.Config{Servers: servers})
	for _, m := range manifest {
		t.Run(m.Name, func(t *testing.T) {
			c, err := caps.Parse(m.Cap)
			if err != nil {
				t.Fatal(err)
			}
			data, literal := c.Literal()
			if !literal {
				if data, err = get(t.Context(), client, c); err != nil {
					t.Fatal(err)
				}
			}
			if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != m.SHA256 {
				t.Error("wrong bytes")
			}
			if literal {
				return
			}
			report, err := client.Check(t.Context(), c)
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

// TestConvergenceSecret is a guard against reading the vectors' secrets wrongly.
func TestConvergenceSecret(t *testing.T) {
	secret, err := base64.StdEncoding.DecodeString("ZOyIygCyaOW6GjVnihtTFg==")
	if err != nil {
		t.Fatal(err)
	}
	c := put(t, newGrid(1), bytes.Repeat([]byte("a"), 56), decode.PutOptions{K: 1, N: 1, SegmentSize: 131072, Convergence: secret})
	const want = "URI:CHK:tkjwggbz6p4wvuipe3gtmgfmsu:cnbcggp4scaxcde6vtfzga7bsuja4qjfbtv23xhaofwhbw5exjrq:1:1:56"
	if c.Reveal() != want {
		t.Errorf("the cap is %s", c.Reveal())
	}
}
