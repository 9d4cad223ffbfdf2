// Package browser_test downloads from the real program with a real browser.
package browser_test

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/draw"
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
	cap := gateway.Put(t, storage, file)
	g := gateway.Start(t, storage)

	// A name that would be shown rather than saved, with what quoting gets wrong.
	const name = "Ünï çødé; 100% \"quoted\".html"
	page := serve(t, link(g.File(cap)+"?save=true&filename="+url.QueryEscape(name)))
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
	cap := gateway.Put(t, storage, file)
	g := gateway.Start(t, storage)
	proxy := cutter.Start(t, strings.TrimPrefix(g.URL, "http://"), func(conn int) cutter.Cut {
		if conn < 3 {
			return cutter.Cut{After: size / 5}
		}
		return cutter.Never
	})

	b.open(serve(t, link("http://"+proxy.Addr+"/file/"+cap+"/@@named=/disk.img?save=true")))
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
	red := image.NewRGBA(image.Rect(0, 0, 300, 300))
	draw.Draw(red, red.Bounds(), image.NewUniform(color.RGBA{R: 255, A: 255}), image.Point{}, draw.Src)
	var picture bytes.Buffer
	if err := png.Encode(&picture, red); err != nil {
		t.Fatal(err)
	}
	page := put(`<!doctype html><title>page</title><p id="p">untouched by scripts</p>
<script>document.getElementById("p").textContent = "a script has run"</script>`)
	text := put("plain text, <b>not</b> markup " + strings.Repeat("and more ", 20))
	img := put(picture.String())
	g := gateway.Start(t, storage)

	b.open(g.URL + "/file/" + page + "/@@named=/page.html")
	if html := b.html(); !strings.Contains(html, "untouched by scripts") {
		t.Errorf("the page was not shown as it is: %s", html)
	}
	b.open(g.URL + "/named/" + text + "/notes.txt")
	if html := b.html(); !strings.Contains(html, "&lt;b&gt;not&lt;/b&gt;") {
		t.Errorf("the text was not shown as text: %s", html)
	}
	b.open(g.File(img) + "?filename=red.png")
	shot, err := png.Decode(bytes.NewReader(b.screenshot()))
	if err != nil {
		t.Fatal(err)
	}
	middle := shot.At(shot.Bounds().Dx()/2, shot.Bounds().Dy()/2)
	if r, g, b, _ := middle.RGBA(); fmt.Sprint(r>>8, g>>8, b>>8) != "255 0 0" {
		t.Errorf("the middle of the shown picture is %v, want red", middle)
	}
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
