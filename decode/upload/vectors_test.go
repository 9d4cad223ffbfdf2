package upload_test

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"spillway/decode/decodetest"
	"spillway/decode/grid/gridtest"
	"spillway/decode/upload"
	"testing"
)

// TestVectors writes every published case and reads it back. The cap commits to
// every byte of every share.
func TestVectors(t *testing.T) {
	file, err := os.Open(decodetest.Shared(t, "vectors/chk.jsonl"))
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
			servers := gridtest.New(1)
			c := put(t, servers, data, upload.Options{K: v.K, N: v.N, SegmentSize: v.MaxSegmentSize, Convergence: v.Convergence})
			if c.Reveal() != v.Cap {
				t.Fatalf("the cap is %s and should be %s", c.Reveal(), v.Cap)
			}
			si := decodetest.StorageIndex(t, c)
			all := servers[0].Held[si]
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
				some := gridtest.New(1)
				some[0].Held[si] = map[int][]byte{}
				for _, num := range nums {
					some[0].Held[si][num] = all[num]
				}
				got, err := decodetest.Get(t.Context(), newClient(t, config{Servers: decodetest.Servers(some)}).Client, c)
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

// TestConvergenceSecret is a guard against reading the vectors' secrets wrongly.
func TestConvergenceSecret(t *testing.T) {
	secret, err := base64.StdEncoding.DecodeString("ZOyIygCyaOW6GjVnihtTFg==")
	if err != nil {
		t.Fatal(err)
	}
	c := put(t, gridtest.New(1), bytes.Repeat([]byte("a"), 56), upload.Options{K: 1, N: 1, SegmentSize: 131072, Convergence: secret})
	const want = "URI:CHK:tkjwggbz6p4wvuipe3gtmgfmsu:cnbcggp4scaxcde6vtfzga7bsuja4qjfbtv23xhaofwhbw5exjrq:1:1:56"
	if c.Reveal() != want {
		t.Errorf("the cap is %s", c.Reveal())
	}
}
