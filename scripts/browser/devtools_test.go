package browser_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"spillway/scripts/need"
)

// patience bounds every wait for the browser. It only decides how long a
// broken one takes to fail a test.
const patience = 2 * time.Minute

// browser is a headless Chromium, driven over the Chrome DevTools Protocol:
// JSON messages, each ended by a zero byte, over a pair of pipes that the
// browser finds as its descriptors 3 and 4. One goroutine, the test's, uses it.
type browser struct {
	tb      testing.TB
	out     *os.File
	in      *os.File
	reader  *bufio.Reader
	lastID  int
	session string
	events  []message // that came while something else was waited for
}

type message struct {
	ID        int             `json:"id,omitempty"`
	Method    string          `json:"method,omitempty"`
	Params    json.RawMessage `json:"params,omitempty"`
	Result    json.RawMessage `json:"result,omitempty"`
	Error     json.RawMessage `json:"error,omitempty"`
	SessionID string          `json:"sessionId,omitempty"`
}

// startBrowser starts a browser with an empty profile and one page. Downloads
// go to the directory returned. It ends with the test.
func startBrowser(tb testing.TB) (b *browser, downloads string) {
	tb.Helper()
	chromium := need.Program(tb, "chromium", "chromium-browser", "google-chrome")
	ours, theirs := pipe(tb)
	theirsOut, oursOut := pipe(tb)

	var stderr bytes.Buffer
	cmd := exec.Command(chromium,
		"--headless", "--remote-debugging-pipe", "--user-data-dir="+tb.TempDir(), "--window-size=400,400",
		"--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "about:blank")
	cmd.ExtraFiles = []*os.File{theirsOut, theirs}
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	theirs.Close()
	theirsOut.Close()
	b = &browser{tb: tb, out: oursOut, in: ours, reader: bufio.NewReader(ours)}
	tb.Cleanup(func() {
		// It ends by itself when the pipes are closed; its children may hold the
		// profile's files for a moment longer than it runs.
		if tb.Failed() {
			cmd.Process.Kill()
		} else {
			b.send("Browser.close", "", nil)
		}
		oursOut.Close()
		cmd.Wait()
		ours.Close()
		if tb.Failed() {
			tb.Logf("standard error of %s:\n%s", chromium, stderr.Bytes())
		}
	})

	downloads = tb.TempDir()
	var created struct{ TargetID string }
	b.call("Target.createTarget", map[string]any{"url": "about:blank"}, &created)
	var attached struct{ SessionID string }
	b.call("Target.attachToTarget", map[string]any{"targetId": created.TargetID, "flatten": true}, &attached)
	b.call("Browser.setDownloadBehavior", map[string]any{
		"behavior": "allow", "downloadPath": downloads, "eventsEnabled": true}, nil)
	b.session = attached.SessionID
	b.call("Page.enable", nil, nil)
	return b, downloads
}

func pipe(tb testing.TB) (r, w *os.File) {
	tb.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		tb.Fatal(err)
	}
	return r, w
}

func (b *browser) send(method, session string, params any) error {
	b.lastID++
	m := message{ID: b.lastID, Method: method, SessionID: session}
	if params != nil {
		text, err := json.Marshal(params)
		if err != nil {
			return err
		}
		m.Params = text
	}
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	_, err = b.out.Write(append(text, 0))
	return err
}

// call runs a command, of the page once there is one, and decodes its result.
func (b *browser) call(method string, params, result any) {
	b.tb.Helper()
	if err := b.send(method, b.session, params); err != nil {
		b.tb.Fatalf("%s: %v", method, err)
	}
	for {
		m := b.read(method)
		if m.ID != b.lastID {
			b.events = append(b.events, m)
			continue
		}
		if m.Error != nil {
			b.tb.Fatalf("%s: %s", method, m.Error)
		}
		if result != nil {
			if err := json.Unmarshal(m.Result, result); err != nil {
				b.tb.Fatalf("%s: %v", method, err)
			}
		}
		return
	}
}

// await returns the next event of a kind, which may have come already.
func (b *browser) await(method string, params any) {
	b.tb.Helper()
	for i, m := range b.events {
		if m.Method == method {
			b.events = append(b.events[:i:i], b.events[i+1:]...)
			b.decode(m, params)
			return
		}
	}
	for {
		m := b.read(method)
		if m.Method == method {
			b.decode(m, params)
			return
		}
		b.events = append(b.events, m)
	}
}

func (b *browser) decode(m message, params any) {
	b.tb.Helper()
	if params == nil {
		return
	}
	if err := json.Unmarshal(m.Params, params); err != nil {
		b.tb.Fatalf("%s: %v", m.Method, err)
	}
}

func (b *browser) read(waitingFor string) message {
	b.tb.Helper()
	if err := b.in.SetReadDeadline(time.Now().Add(patience)); err != nil {
		b.tb.Fatal(err)
	}
	text, err := b.reader.ReadBytes(0)
	if err != nil {
		b.tb.Fatalf("waiting for %s: %v", waitingFor, err)
	}
	var m message
	if err := json.Unmarshal(bytes.TrimSuffix(text, []byte{0}), &m); err != nil {
		b.tb.Fatalf("waiting for %s: %v", waitingFor, err)
	}
	return m
}

// open goes to a page and waits until it is shown.
func (b *browser) open(url string) {
	b.tb.Helper()
	var result struct{ ErrorText string }
	b.call("Page.navigate", map[string]any{"url": url}, &result)
	if result.ErrorText != "" {
		b.tb.Fatalf("Page.navigate: %s", result.ErrorText)
	}
	b.await("Page.loadEventFired", nil)
}

// click clicks the page's only link, as its user would.
func (b *browser) click() {
	b.tb.Helper()
	b.call("Runtime.evaluate", map[string]any{"expression": "document.links[0].click()", "userGesture": true}, nil)
}

// html returns the page as it is now, scripts having run if they may.
func (b *browser) html() string {
	b.tb.Helper()
	var document struct{ Root struct{ NodeID int } }
	b.call("DOM.getDocument", nil, &document)
	var outer struct{ OuterHTML string }
	b.call("DOM.getOuterHTML", map[string]any{"nodeId": document.Root.NodeID}, &outer)
	return outer.OuterHTML
}

// screenshot returns the page as a PNG.
func (b *browser) screenshot() []byte {
	b.tb.Helper()
	var shot struct{ Data []byte }
	b.call("Page.captureScreenshot", map[string]any{"format": "png"}, &shot)
	return shot.Data
}

// download is what the browser tells of one download.
type download struct {
	name string // that it suggests
	path string
}

// awaitDownload waits for a download to begin and to be complete.
func (b *browser) awaitDownload(downloads string) download {
	b.tb.Helper()
	var begin struct{ GUID, SuggestedFilename string }
	b.await("Browser.downloadWillBegin", &begin)
	for {
		var progress struct {
			GUID, State, FilePath     string
			ReceivedBytes, TotalBytes float64
		}
		b.await("Browser.downloadProgress", &progress)
		if progress.GUID != begin.GUID {
			continue
		}
		switch progress.State {
		case "completed":
			d := download{name: begin.SuggestedFilename, path: progress.FilePath}
			if d.path == "" {
				d.path = downloads + "/" + begin.SuggestedFilename
			}
			return d
		case "canceled":
			b.tb.Fatalf("download of %q ended after %.0f of %.0f bytes", begin.SuggestedFilename, progress.ReceivedBytes, progress.TotalBytes)
		}
	}
}

// link is a page with one link.
func link(url string) string {
	return "<!doctype html><title>link</title><a href=\"" + strings.ReplaceAll(url, "&", "&amp;") + "\">file</a>"
}
