package target

import (
	"net/http"
	"unicode/utf8"

	"github.com/apifailover/caddy-failover/internal/outcome"

	"net/url"
	"strings"
	"testing"
)

func TestRedactURL(t *testing.T) {
	for raw, want := range map[string]string{
		"https://api.example/v1":                       "https://api.example/v1",
		"https://user:secret@api.example:8443/a%2Fb/":  "https://api.example:8443/a%2Fb/",
		"https://eth.example/v2/Ab0dEf-hIjKlMnOp_rs":   "https://eth.example/v2/xxxxx",
		"https://api.example/openai-compatible-models": "https://api.example/openai-compatible-models",
		"http://[::1]:80":                              "http://[::1]:80",
	} {
		u, err := url.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		if got := RedactURL(u); got != want {
			t.Errorf("%s: got %s, want %s", raw, got, want)
		}
	}
	if got := RedactURL(nil); got != "" {
		t.Errorf("no URL: got %q", got)
	}
}

// FuzzRedactURL checks that a shown base URL contains no user, password, query, fragment, or
// segment that looks like a key, and everything else.
func FuzzRedactURL(f *testing.F) {
	f.Add("https://user:pass@api.example:8443/v1/AbCdEfGh12345678?key=x#y")
	f.Add("http://[::1]/a%2Fb/0123456789abcdef0123/")
	f.Add("https://h/v3/%41bcdefgh1234567890")
	f.Add("s://user@h/path@h")
	f.Fuzz(func(t *testing.T, raw string) {
		u, err := url.Parse(raw)
		if err != nil || u.Host == "" || u.Opaque != "" {
			return
		}
		const user, password, query, fragment = "Us3rOfTheTest", "P4ssOfTheTest", "Qu3ryOfTheTest", "Fr4gOfTheTest"
		if strings.Contains(raw, "OfTheTest") {
			return
		}
		u.User, u.RawQuery, u.Fragment = url.UserPassword(user, password), query, fragment
		u.Path, u.RawPath = u.Path+"/K3yOfTheTest0000/x", ""
		shown := RedactURL(u)
		if strings.Contains(shown, "OfTheTest") {
			t.Fatalf("%q: %q", raw, shown)
		}
		read, err := url.Parse(shown)
		if err != nil || read.User != nil || read.RawQuery != "" || read.Fragment != "" || read.Host != u.Host {
			t.Fatalf("%q: %q is read as %v (%v)", raw, shown, read, err)
		}
		for segment := range strings.SplitSeq(read.EscapedPath(), "/") {
			if outcome.LooksLikeKey(segment) || looksLikeKey(segment) {
				t.Fatalf("%q: %q shows %q", raw, shown, segment)
			}
		}
	})
}

// TestShownPath checks which parts of a request's path and method are shown.
func TestShownPath(t *testing.T) {
	long := strings.Repeat("/segment", 100)
	for path, want := range map[string]string{
		"/v1/chat":                              "/v1/chat",
		"/":                                     "/",
		"":                                      "",
		"/v1/chat?key=secret":                   "/v1/chat",
		"/bot/sk-abcdefgh12345678/send":         "/bot/xxxxx/send",
		"/v3/%61bcdefgh1234567890":              "/v3/xxxxx",
		"/a%1b%5B31m%0d%0ab":                    "/a%1b%5B31m%0d%0ab",
		"/a%E2%80%AEb":                          "/a%E2%80%AEb",
		"/%E6%A8%A1%E5%9E%8B":                   "/%E6%A8%A1%E5%9E%8B",
		"/模型":                                   "/%E6%A8%A1%E5%9E%8B",
		long:                                    long[:97] + "...",
		strings.Repeat("/abcdefgh12345678", 60): strings.Repeat("/xxxxx", 17)[:97] + "...",
		"/" + strings.Repeat("abcdefgh12345678", 60): "/...",
	} {
		u, err := url.Parse(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := ShownPath(u); got != want {
			t.Errorf("%q: got %q, want %q", path, got, want)
		}
	}
	for method, want := range map[string]string{"": http.MethodGet, "POST": "POST", "A\u202eB\x1b C": "ABC", strings.Repeat("M", 99): strings.Repeat("M", 20)} {
		if got := ShownMethod(method); got != want {
			t.Errorf("method %q: got %q, want %q", method, got, want)
		}
	}
}

// FuzzShownPath checks that a shown path is short, printable ASCII, and contains no key.
func FuzzShownPath(f *testing.F) {
	f.Add("/v1/chat", "")
	f.Add("/a\u202eb\x1b[2J/0123456789abcdef", "/a%E2%80%AEb")
	f.Fuzz(func(t *testing.T, path, raw string) {
		shown := ShownPath(&url.URL{Path: path, RawPath: raw, RawQuery: "QueryOfTheTest"})
		if len(shown) > 100 || !utf8.ValidString(shown) || strings.ContainsFunc(shown, func(r rune) bool { return r <= ' ' || r > '~' }) {
			t.Fatalf("%q: %q", path, shown)
		}
		for segment := range strings.SplitSeq(strings.TrimSuffix(shown, "..."), "/") {
			if text, err := url.PathUnescape(segment); err == nil && outcome.LooksLikeKey(text) {
				t.Fatalf("%q: shows %q", path, text)
			}
		}
	})
}
