package server

import (
	"path"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"spillway/server/transport"
)

// cacheControl lets the reader's own cache keep a file as long as it likes,
// since its bytes never change, and forbids proxies to keep or transform it.
const cacheControl = "private, max-age=31536000, immutable, no-transform"

// fileFields returns the fields that every answer about a readable file
// carries: 200, 206 and 304 alike. name is the file's name, or "" if the
// request told none; save asks the browser to store the file, not to show it.
func fileFields(rep representation, name string, save bool) *transport.Fields {
	fields := append(slices.Clone(commonList),
		transport.Field{Name: "Accept-Ranges", Values: []string{"bytes"}},
		transport.Field{Name: "Etag", Values: []string{rep.etag()}},
		transport.Field{Name: "Cache-Control", Values: []string{cacheControl}},
		transport.Field{Name: "Content-Security-Policy", Values: []string{contentSecurityPolicy(rep.contentType)}},
		// A proxy that keeps up to a gigabyte and then takes nothing for long looks like a stalled
		// client.
		transport.Field{Name: "X-Accel-Buffering", Values: []string{"no"}},
	)
	if save && name == "" {
		name = rep.id // else the browser would make a name of the URL, that is of the cap
	}
	if name != "" {
		fields = append(fields, transport.Field{Name: "Content-Disposition", Values: []string{contentDisposition(name, save)}})
	}
	return transport.NewFields(fields...)
}

// commonFields are the fields of every answer, errors too. Whatever refers
// to a file by its cap must not hand the cap on, and what is no image must not
// be taken for one.
var (
	commonList = []transport.Field{
		{Name: "X-Content-Type-Options", Values: []string{"nosniff"}},
		{Name: "Referrer-Policy", Values: []string{"no-referrer"}},
		{Name: "Cross-Origin-Resource-Policy", Values: []string{"same-origin"}},
	}
	commonFields = transport.NewFields(commonList...)
)

// contentSecurityPolicy confines a file that a browser shows: it is other
// people's, and must not script the gateway's origin or call home.
//
// Images, sound and film keep the gateway's origin, without which the
// browser's own player could not fetch the ranges it plays
// (Cross-Origin-Resource-Policy); they hold no scripts, and nosniff keeps them
// what they are. Browsers refuse to show a sandboxed PDF at all, and their
// viewers are sandboxes of their own. What an HTML file links to may be
// downloaded, which needs the reader's click.
func contentSecurityPolicy(contentType string) string {
	kind, _, _ := strings.Cut(contentType, "/")
	switch {
	case contentType == "application/pdf":
		return "default-src 'none'; object-src 'self'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
	case contentType != "image/svg+xml" && (kind == "image" || kind == "audio" || kind == "video"):
		return "sandbox allow-same-origin allow-downloads; default-src 'none'; img-src 'self' data:; media-src 'self' data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
	}
	return "sandbox allow-downloads; default-src 'none'; img-src data:; media-src data:; font-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
}

// contentDisposition names the file twice (RFC 6266, section 4.3 and appendix
// D): in ASCII for programs that know no better, and whole, as UTF-8.
func contentDisposition(name string, save bool) string {
	kind := "inline"
	if save {
		kind = "attachment"
	}
	return kind + `; filename="` + asciiName(name) + `"; filename*=UTF-8''` + extValue(name)
}

// cleanName returns what of a name given in a URL may name a file: one path element, on Windows
// too, of valid UTF-8, of 255 bytes at most, without control characters and without the marks that
// turn the direction of text (they make "exe.txt" of "txt.exe"). It is "" if nothing is left that
// could.
func cleanName(name string) string {
	name = strings.Map(func(r rune) rune {
		switch {
		case r == '/', r == '\\', unicode.IsControl(r), unicode.Is(unicode.Bidi_Control, r):
			return '_'
		}
		return r
	}, strings.ToValidUTF8(name, "\uFFFD"))
	if name == "." || name == ".." {
		return ""
	}
	return cutName(name)
}

// maxName is how many bytes the name of a file may have on nearly every file system.
// maxExtension is how many of them are kept for what tells its kind.
const (
	maxName      = 255
	maxExtension = 16
)

// cutName shortens a name of valid UTF-8 to maxName bytes, before its extension if that is short.
func cutName(name string) string {
	if len(name) <= maxName {
		return name
	}
	extension := path.Ext(name)
	if len(extension) > maxExtension {
		extension = ""
	}
	end := maxName - len(extension)
	for !utf8.RuneStart(name[end]) {
		end--
	}
	return name[:end] + extension
}

// asciiName replaces what does not fit into a quoted-string that old programs
// read literally: quotes, backslashes, all that is not ASCII, and percent
// signs that they might take for an escape.
func asciiName(name string) string {
	var b strings.Builder
	for i, r := range name {
		switch {
		case r == '"', r == '\\', r < 0x20, r > 0x7e, r == '%' && escapeAt(name, i):
			b.WriteByte('_')
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

func escapeAt(s string, i int) bool {
	return i+2 < len(s) && isHex(s[i+1]) && isHex(s[i+2])
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

// extValue encodes a name as the value of an extended parameter (RFC 8187,
// section 3.2.1): every byte but those of attr-char as %XX.
func extValue(name string) string {
	const attrChar = "!#$&+-.^_`|~"
	const digits = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(name) {
		c := name[i]
		if '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' ||
			c < utf8.RuneSelf && strings.IndexByte(attrChar, c) >= 0 {
			b.WriteByte(c)
			continue
		}
		b.WriteByte('%')
		b.WriteByte(digits[c>>4])
		b.WriteByte(digits[c&15])
	}
	return b.String()
}

// contentTypeOf guesses from the last extension of a file's name. The table is
// ours and not the host's, so that every instance says the same.
func contentTypeOf(name string) string {
	if t, ok := contentTypes[strings.ToLower(strings.TrimPrefix(path.Ext(name), "."))]; ok {
		return t
	}
	return "application/octet-stream"
}

// contentTypes maps extensions. Plain text says UTF-8, which it nearly always
// is and which browsers would not assume; HTML and XML name their encoding
// themselves. Compressed files are what they are: there is never a
// Content-Encoding.
var contentTypes = map[string]string{
	"txt": "text/plain; charset=utf-8", "text": "text/plain; charset=utf-8", "log": "text/plain; charset=utf-8",
	"md": "text/markdown; charset=utf-8", "csv": "text/csv; charset=utf-8", "tsv": "text/tab-separated-values; charset=utf-8",
	"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "mjs": "text/javascript; charset=utf-8",
	"ics": "text/calendar; charset=utf-8", "vcf": "text/vcard; charset=utf-8", "vtt": "text/vtt; charset=utf-8",
	"srt": "text/plain; charset=utf-8", "diff": "text/plain; charset=utf-8", "patch": "text/plain; charset=utf-8",
	"asc": "text/plain; charset=utf-8", "sha256": "text/plain; charset=utf-8", "nfo": "text/plain; charset=utf-8",
	"htm": "text/html", "html": "text/html", "xhtml": "application/xhtml+xml", "xml": "application/xml",
	"json": "application/json", "jsonl": "application/jsonl", "geojson": "application/geo+json", "yaml": "application/yaml", "yml": "application/yaml",
	"toml": "application/toml", "rss": "application/rss+xml", "atom": "application/atom+xml", "wasm": "application/wasm",

	"png": "image/png", "jpg": "image/jpeg", "jpeg": "image/jpeg", "jfif": "image/jpeg", "gif": "image/gif", "webp": "image/webp",
	"avif": "image/avif", "heic": "image/heic", "heif": "image/heif", "jxl": "image/jxl", "bmp": "image/bmp", "ico": "image/vnd.microsoft.icon",
	"tif": "image/tiff", "tiff": "image/tiff", "svg": "image/svg+xml", "psd": "image/vnd.adobe.photoshop",

	"mp3": "audio/mpeg", "m4a": "audio/mp4", "aac": "audio/aac", "ogg": "audio/ogg", "oga": "audio/ogg", "opus": "audio/ogg",
	"flac": "audio/flac", "wav": "audio/wav", "weba": "audio/webm", "mid": "audio/midi", "midi": "audio/midi",

	"mp4": "video/mp4", "m4v": "video/mp4", "webm": "video/webm", "ogv": "video/ogg", "mkv": "video/matroska", "mov": "video/quicktime",
	"avi": "video/x-msvideo", "mpg": "video/mpeg", "mpeg": "video/mpeg", "wmv": "video/x-ms-wmv", "ts": "video/mp2t", "3gp": "video/3gpp",

	"woff": "font/woff", "woff2": "font/woff2", "ttf": "font/ttf", "otf": "font/otf",

	"pdf": "application/pdf", "ps": "application/postscript", "eps": "application/postscript", "rtf": "application/rtf", "tex": "application/x-tex",
	"epub": "application/epub+zip", "mobi": "application/x-mobipocket-ebook", "djvu": "image/vnd.djvu",
	"doc": "application/msword", "xls": "application/vnd.ms-excel", "ppt": "application/vnd.ms-powerpoint",
	"docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
	"xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
	"pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
	"odt":  "application/vnd.oasis.opendocument.text", "ods": "application/vnd.oasis.opendocument.spreadsheet", "odp": "application/vnd.oasis.opendocument.presentation",

	"zip": "application/zip", "gz": "application/gzip", "tgz": "application/gzip", "bz2": "application/x-bzip2", "xz": "application/x-xz",
	"zst": "application/zstd", "7z": "application/x-7z-compressed", "rar": "application/vnd.rar", "tar": "application/x-tar",
	"jar": "application/java-archive", "apk": "application/vnd.android.package-archive", "deb": "application/vnd.debian.binary-package",
	"rpm": "application/x-rpm", "iso": "application/x-iso9660-image", "torrent": "application/x-bittorrent",
	"parquet": "application/vnd.apache.parquet", "sqlite": "application/vnd.sqlite3",
}
