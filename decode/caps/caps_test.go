package caps_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"
	"testing"

	"spillway/decode/caps"
	"spillway/decode/grid"
)

const (
	keyText = "q6m3rml7l6w4ztvqvfbdrwl7ei"
	uebText = "orpk7m7ebzops5333umhrpfxb3s63ar4dtrq4yvyultpis4kjpya"
	chkText = "URI:CHK:" + keyText + ":" + uebText + ":3:10:56"
	verText = "URI:CHK-Verifier:q37z5mj57lewkjcal626cpqigm:" + uebText + ":3:10:56"
)

func TestParseCap(t *testing.T) {
	for _, text := range []string{
		chkText,
		"URI:CHK:" + keyText + ":" + uebText + ":1:1:1",
		"URI:CHK:" + keyText + ":" + uebText + ":256:256:4611686018427387903",
		"URI:LIT:",
		"URI:LIT:krugkidfnzsc4",
		"URI:LIT:" + grid.Base32(make([]byte, 4<<10)),
	} {
		c, err := caps.Parse(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if c.Reveal() != text {
			t.Errorf("Reveal: %s, want %s", c.Reveal(), text)
		}
		again, _ := caps.Parse(text)
		if again != c || again.ID() != c.ID() || len(c.ID()) != 26 {
			t.Errorf("%s: not equal to itself, or an ID that is none: %s", text, c.ID())
		}
	}
	c, _ := caps.Parse("URI:LIT:krugkidfnzsc4")
	if b, ok := c.Literal(); !ok || string(b) != "The end." || c.Size() != 8 {
		t.Errorf("literal %q %v, size %d", b, ok, c.Size())
	}
	c, _ = caps.Parse(chkText)
	if _, ok := c.Literal(); ok || c.Size() != 56 {
		t.Errorf("literal %v, size %d", ok, c.Size())
	}
	v, _ := c.Verifier()
	w, err := caps.ParseVerifier(verText)
	if err != nil || v != w || v.StorageIndex.String() != "q37z5mj57lewkjcal626cpqigm" || v.Size != 56 {
		t.Errorf("verify caps %v and %v (%v)", v, w, err)
	}
}

func TestParseCapMalformed(t *testing.T) {
	for _, text := range []string{
		"URI:LIT:" + grid.Base32(make([]byte, 4<<10+1)),
		"", "URI", "URI:", "URI::", "uri:chk:x", "http://example.org/", " " + chkText, chkText + " ", chkText + "\n",
		"URI:CHK:", "URI:CHK:::::", chkText + ":", chkText + ":1",
		strings.Replace(chkText, keyText, keyText[:25], 1),
		strings.Replace(chkText, keyText, keyText+"a", 1),
		strings.Replace(chkText, keyText, keyText[:25]+"j", 1), // unused bits set
		strings.Replace(chkText, keyText, strings.ToUpper(keyText), 1),
		strings.Replace(chkText, keyText, keyText[:25]+"\n", 1),
		strings.Replace(chkText, keyText, keyText[:10]+"\r\n"+keyText[10:], 1),
		strings.Replace(chkText, keyText, keyText+"======", 1),
		strings.Replace(chkText, uebText, uebText[:51]+"b", 1),
		strings.Replace(chkText, ":3:10:56", ":0:10:56", 1),
		strings.Replace(chkText, ":3:10:56", ":11:10:56", 1),
		strings.Replace(chkText, ":3:10:56", ":3:257:56", 1),
		strings.Replace(chkText, ":3:10:56", ":03:10:56", 1),
		strings.Replace(chkText, ":3:10:56", ":+3:10:56", 1),
		strings.Replace(chkText, ":3:10:56", ":3:10:0", 1),
		strings.Replace(chkText, ":3:10:56", ":3:10:-1", 1),
		strings.Replace(chkText, ":3:10:56", ":3:10:4611686018427387904", 1),
		strings.Replace(chkText, ":3:10:56", ":3:10:99999999999999999999", 1),
		strings.Replace(chkText, ":3:10:56", ":3:10:5_6", 1),
		"URI:LIT:a", "URI:LIT:ab", "URI:LIT:abc", "URI:LIT:AA", "URI:LIT:aa=", "URI:LIT:a a",
	} {
		c, err := caps.Parse(text)
		if !errors.Is(err, caps.ErrMalformed) || !errors.Is(err, fs.ErrInvalid) || c != (caps.Cap{}) {
			t.Errorf("%q: %v, %v", text, c, err)
			continue
		}
		if strings.Contains(err.Error(), keyText[:10]) || strings.Contains(err.Error(), uebText[:10]) {
			t.Errorf("the error tells the secret: %v", err)
		}
	}
}

func TestParseCapUnsupported(t *testing.T) {
	secret := keyText + ":" + uebText
	for kind, verifier := range map[string]bool{
		"URI:CHK-Verifier": true, "URI:SSK": false, "URI:SSK-RO": false, "URI:SSK-Verifier": true,
		"URI:MDMF": false, "URI:MDMF-RO": false, "URI:MDMF-Verifier": true,
		"URI:DIR2": false, "URI:DIR2-RO": false, "URI:DIR2-Verifier": true,
		"URI:DIR2-CHK": false, "URI:DIR2-CHK-Verifier": true, "URI:DIR2-LIT": false,
		"URI:DIR2-MDMF": false, "URI:DIR2-MDMF-RO": false, "URI:DIR2-MDMF-Verifier": true,
		"URI:FUTURE9": false,
	} {
		_, err := caps.Parse(kind + ":" + secret)
		var unsupported *caps.UnsupportedError
		if !errors.As(err, &unsupported) || unsupported.Kind != kind || unsupported.Verifier != verifier {
			t.Errorf("%s: %v", kind, err)
			continue
		}
		if !errors.Is(err, errors.ErrUnsupported) || errors.Is(err, caps.ErrMalformed) ||
			strings.Contains(err.Error(), keyText) || !strings.Contains(err.Error(), kind) {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

// TestCapRedacted formats a Cap in every way that might end in a log.
func TestCapRedacted(t *testing.T) {
	for _, text := range []string{chkText, "URI:LIT:krugkidfnzsc4krugkidfnzsc4"} {
		c, err := caps.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		nested := struct {
			hidden caps.Cap
			Shown  caps.Cap
			list   []caps.Cap
			key    caps.Key
			Key    caps.Key
		}{c, c, []caps.Cap{c}, c.Key(), c.Key()}
		var b bytes.Buffer
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T", "%p", "%08.3f", "%#x", "% x"} {
			fmt.Fprintf(&b, verb+"\n", c)
			fmt.Fprintf(&b, verb+"\n", c.Key())
			fmt.Fprintf(&b, verb+"\n", &c)
			fmt.Fprintf(&b, verb+"\n", nested)
			fmt.Fprintf(&b, verb+"\n", &nested)
		}
		log := slog.New(slog.NewJSONHandler(&b, nil))
		log.Info("json", "cap", c, "pointer", &c, "nested", nested)
		log = slog.New(slog.NewTextHandler(&b, nil))
		log.Info("text", "cap", c, "pointer", &c, "nested", nested)
		if err := json.NewEncoder(&b).Encode(map[string]any{"cap": c, "nested": nested}); err != nil {
			t.Fatal(err)
		}
		secret := strings.Split(text, ":")[2]
		raw, _ := c.Literal()
		for _, s := range []string{secret, strings.ToUpper(secret), string(raw), fmt.Sprintf("%x", raw),
			"135 153 184 169", "8799b8a9", "8799B8A9", "0x87, 0x99"} {
			if s != "" && strings.Contains(b.String(), s) {
				t.Errorf("%q shows in:\n%s", s, b.String())
			}
		}
		if !strings.Contains(b.String(), c.ID()) {
			t.Error("the ID is not shown")
		}
	}
}

func FuzzParseCap(f *testing.F) {
	for _, s := range []string{chkText, verText, "URI:LIT:krugkidfnzsc4", "URI:LIT:", "URI:DIR2-RO:" + keyText + ":" + uebText, "URI:MDMF:a:b:3:131073"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c, err := caps.Parse(text)
		if err == nil && c.Reveal() != text {
			t.Errorf("%q is accepted for %q", text, c.Reveal())
		}
		var unsupported *caps.UnsupportedError
		if err != nil && !errors.Is(err, caps.ErrMalformed) && !errors.As(err, &unsupported) {
			t.Errorf("%q: %v", text, err)
		}
		if v, err := caps.ParseVerifier(text); err == nil && v.Size < 1 {
			t.Errorf("%q: size %d", text, v.Size)
		}
	})
}
