package target

import (
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

// FuzzRedactURL: of a base URL nothing is shown that may be a credential: user, password,
// query, fragment, and segments that look like keys; all else is.
func FuzzRedactURL(f *testing.F) {
	f.Add("https://user:pass@api.example:8443/v1/AbCdEfGh12345678?key=x#y")
	f.Add("http://[::1]/a%2Fb/0123456789abcdef0123/")
	f.Add("https://h/v3/%41bcdefgh1234567890")
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
		if strings.Contains(shown, "OfTheTest") || strings.Contains(shown, "@"+u.Host) {
			t.Fatalf("%q: %q", raw, shown)
		}
		read, err := url.Parse(shown)
		if err != nil || read.User != nil || read.RawQuery != "" || read.Fragment != "" || read.Host != u.Host {
			t.Fatalf("%q: %q is read as %v (%v)", raw, shown, read, err)
		}
		for segment := range strings.SplitSeq(read.EscapedPath(), "/") {
			if looksLikeKey(segment) {
				t.Fatalf("%q: %q shows %q", raw, shown, segment)
			}
			if name, err := url.PathUnescape(segment); err == nil && looksLikeKey(name) {
				t.Fatalf("%q: %q shows %q, escaped", raw, shown, name)
			}
		}
	})
}
