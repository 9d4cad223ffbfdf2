package interop_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"spillway/scripts/need"
)

// shape is how the grid's client uploads.
type shape struct {
	K       int   `json:"k"`
	Happy   int   `json:"happy"`
	N       int   `json:"n"`
	Segment int64 `json:"segment"` // bytes at most
	Layout  int   `json:"layout"`  // of shares
}

func (s shape) String() string {
	return fmt.Sprintf("%d of %d, %d KiB segments, layout %d", s.K, s.N, s.Segment>>10, s.Layout)
}

// grid is a real Tahoe-LAFS grid, run by ../tahoe/grid.py.
type grid struct {
	Client  string   `json:"client"`   // the client node's directory
	NodeURL string   `json:"node_url"` // of the client's web API
	Storage []string `json:"storage"`  // the storage nodes' storage directories
	PIDs    []int    `json:"pids"`     // the storage nodes' processes
	Tahoe   string   `json:"tahoe"`    // the program

	stdin   io.WriteCloser
	answers *bufio.Reader
}

// startGrid starts a grid that ends with the test.
func startGrid(t *testing.T) *grid {
	t.Helper()
	venv := need.Tahoe(t)
	cmd := exec.Command("python3", filepath.Join("..", "tahoe", "grid.py"), venv, t.TempDir())
	cmd.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	g := &grid{stdin: stdin, answers: bufio.NewReader(stdout)}
	t.Cleanup(func() {
		stdin.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the grid ended with %v\n%s", err, stderr.Bytes())
		}
	})
	g.answer(t)
	return g
}

// configure makes the client upload in another shape from now on.
func (g *grid) configure(t *testing.T, s shape) {
	t.Helper()
	if err := json.NewEncoder(g.stdin).Encode(s); err != nil {
		t.Fatal(err)
	}
	g.answer(t)
}

// restart kills a storage node and starts it again, after change if that is not nil.
func (g *grid) restart(t *testing.T, number int, change func()) {
	t.Helper()
	if err := syscall.Kill(g.PIDs[number], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change()
	}
	g.start(t, number)
}

// start starts a storage node that has been killed, and waits until it is up.
func (g *grid) start(t *testing.T, number int) {
	t.Helper()
	if err := json.NewEncoder(g.stdin).Encode(map[string]int{"start": number}); err != nil {
		t.Fatal(err)
	}
	g.answer(t)
}

func (g *grid) answer(t *testing.T) {
	t.Helper()
	line, err := g.answers.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, g)
	}
	if err != nil {
		t.Fatalf("the grid did not come up: %v", err)
	}
}

// tahoe runs one command of Tahoe-LAFS on the client node and returns its
// standard output.
func (g *grid) tahoe(t *testing.T, args ...string) []byte {
	t.Helper()
	return g.tahoeOn(t, g.Client, args...)
}

// tahoeOn is tahoe with the node directory said.
func (g *grid) tahoeOn(t *testing.T, node string, args ...string) []byte {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), g.Tahoe, append([]string{"--node-directory", node}, args...)...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("tahoe %s: %v\n%s", args[0], err, stderr.Bytes())
	}
	return stdout.Bytes()
}

// put uploads a file through the client node and returns its cap.
func (g *grid) put(t *testing.T, file string) string {
	t.Helper()
	return string(bytes.TrimSpace(g.tahoe(t, "put", "--format=CHK", file)))
}
