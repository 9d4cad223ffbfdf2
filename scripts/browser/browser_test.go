// Package browser_test downloads from the real program with a real browser.
package browser_test

import (
	"bytes"
	"image/png"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"spillway/scripts/internal/cutter"
	"spillway/scripts/internal/gateway"
	"spillway/scripts/internal/sample"
)

func TestMain(m *testing.M) { os.Exit(gateway.Main(m)) }

const size = 12<<20 + 345

// grid returns ten storage directories.
func grid(t *testing.T) []string {
	storage := make([]string, 10)
	for i := range storage {
		storage[i] = t.TempDir()
	}
	return storage
}

// A link with ?save=true saves the file under its name, whatever is in it.
func TestSave(t *testing.T) {
	b, downloads := startBrowser(t)
	file, sum := sample.Write(t, 1, size)
	storage := grid(t)
	readCap := gateway.Put(t, storage, file)
	g := gateway.Start(t, storage)

	// A name that would be shown rather than saved, with what quoting gets wrong.
	const name = "Ünï çødé; 100% \"quoted\".html"
	page := serve(t, link(g.File(readCap)+"?save=true&filename="+url.QueryEscape(name)))
	b.open(page)
	b.click()
	d := b.awaitDownload(downloads)
	// Chromium writes _ for what file names may not hold on some systems.
	if got, want := d.name, strings.NewReplacer(`"`, "_").Replace(name); got != want {
		t.Errorf("saved as %q, want %q", got, want)
	}
	if got := sample.SumOfFile(t, d.path); got != sum {
		t.Errorf("SHA-256 %s, want %s", got, sum)
	}
}

// The browser resumes a download by itself when its connection ends too early.
func TestSaveResumes(t *testing.T) {
	b, downloads := startBrowser(t)
	file, sum := sample.Write(t, 2, size)
	storage := grid(t)
	readCap := gateway.Put(t, storage, file)
	g := gateway.Start(t, storage)
	proxy := cutter.Start(t, strings.TrimPrefix(g.URL, "http://"), func(conn int) cutter.Cut {
		if conn < 3 {
			return cutter.Cut{After: size / 5}
		}
		return cutter.Never
	})

	b.open(serve(t, link("http://"+proxy.Addr+"/file/"+readCap+"/@@named=/disk.img?save=true")))
	b.click()
	d := b.awaitDownload(downloads)
	if d.name != "disk.img" {
		t.Errorf("saved as %q, want disk.img", d.name)
	}
	if got := sample.SumOfFile(t, d.path); got != sum {
		t.Errorf("SHA-256 %s, want %s", got, sum)
	}
	if proxy.Cuts() == 0 {
		t.Error("no connection was cut")
	}
	if got := g.Metric(t, "spillway_spool_written_bytes_total"); got != size {
		t.Errorf("%d bytes were decoded for a file of %d", got, size)
	}
}

// Files are shown in the browser, but what is active in them stays dead.
func TestView(t *testing.T) {
	b, _ := startBrowser(t)
	storage := grid(t)
	put := func(content string) string {
		file := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return gateway.Put(t, storage, file)
	}
	page := put(`<!doctype html><title>page</title><p id="p">untouched by scripts</p>
<script>document.getElementById("p").textContent = "a script has run"</script>`)
	text := put("plain text, <b>not</b> markup " + strings.Repeat("and more ", 20))
	picture, document, sound := put(redPNG()), put(redPDF()), put(silentWAV(20))
	g := gateway.Start(t, storage)

	b.open(g.URL + "/file/" + page + "/@@named=/page.html")
	if html := b.html(); !strings.Contains(html, "untouched by scripts</p>") {
		t.Errorf("the page was not shown as it is: %s", html)
	}
	b.open(g.URL + "/named/" + text + "/notes.txt")
	if html := b.html(); !strings.Contains(html, "&lt;b&gt;not&lt;/b&gt;") {
		t.Errorf("the text was not shown as text: %s", html)
	}
	for _, url := range []string{
		g.File(picture) + "?filename=red.png",
		g.URL + "/file/" + document + "/red.pdf",
	} {
		b.open("about:blank")
		b.open(url)
		gateway.Await(t, "red in the middle of the page", func() bool { return isRed(t, b.screenshot()) })
	}

	b.call("Media.enable", nil, nil)
	b.open(g.URL + "/file/" + sound + "/silence.wav")
	for found := map[string]string{}; found["kMaxDuration"] == ""; {
		var player struct {
			Properties []struct{ Name, Value string }
		}
		b.await("Media.playerPropertiesChanged", &player)
		for _, p := range player.Properties {
			found[p.Name] = p.Value
		}
		if d := found["kMaxDuration"]; d != "" && (d != "20.0" || found["kIsRangeHeaderSupported"] != "true") {
			t.Errorf("the player sees %q seconds, ranges %q; want 20.0 seconds, ranges true", d, found["kIsRangeHeaderSupported"])
		}
	}
}

// isRed tells whether the middle of a picture is.
func isRed(t *testing.T, shot []byte) bool {
	t.Helper()
	picture, err := png.Decode(bytes.NewReader(shot))
	if err != nil {
		t.Fatal(err)
	}
	r, g, b, _ := picture.At(picture.Bounds().Dx()/2, picture.Bounds().Dy()/2).RGBA()
	return r == 0xffff && g == 0 && b == 0
}

// serve serves one page on an origin of its own and returns its URL.
func serve(t *testing.T, html string) string {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		io.WriteString(w, html)
	}))
	t.Cleanup(s.Close)
	return s.URL
}
