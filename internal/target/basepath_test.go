package target

import (
	"math/rand/v2"
	"net/url"
	"path"
	"strings"
	"testing"
)

// pathsOutside are paths that some server reads as one above their beginning.
var pathsOutside = []string{
	"/../secret", "/..", "/../", "/a/../../secret", "/a/b/../../../c", "/./../x", "/a/./../../x", "/a//../../x",
	"/%2e%2e/secret", "/%2E%2e/secret", "/.%2e/secret", "/%2e./secret",
	"/..%2fsecret", "/..%2Fsecret", "/%2e%2e%2fsecret", "/a%2f..%2f..%2fsecret", "/a/..%2f../x", "/a%2fb/../../x", "/a%2fb/../%2e%2e",
	"/%252e%252e%252fsecret", "/%252e%252e/secret", "/..%252fsecret", "/%25252e%25252e%25252fsecret", "/%%32%65%%32%65/x",
	"/%252525252525252e%252525252525252e/x", "/a/%252e%252e/..",
	"/..;/secret", "/..;x=y/secret", "/..;x=y;z/secret", "/%2e%2e;/secret", "/..%3bx/secret", "/..%3fx/secret", "/..%23/secret",
	"/..%5csecret", "/..%5Csecret", "/a%5c..%5c..%5csecret", "/..%255csecret", "/%5c..",
	"/%c0%ae%c0%ae/secret", "/%c0%2e%c0%2e/../x", "/..%c0%afsecret", "/..%c1%9csecret", "/%e0%80%ae%e0%80%ae/x", "/%f0%80%80%ae%f0%80%80%ae/x",
	"/%25c0%25ae%25c0%25ae/secret", "/%25u002e%25u002e/x", "/..%25u2215x",
	"/%ef%bc%8e%ef%bc%8e/secret", "/..%ef%bc%8fsecret", "/%e2%80%a5/secret",
	"/..%00/secret", "/..%00x/secret", "/.%00./secret", "/.%09./secret", "/..%0d/x", "/..%20/secret", "/...%20/secret",
	"//../x", "//a/../../x", "/;x/../y", "/%3b/../y",
}

// pathsInside are paths that no server reads as one above their beginning.
var pathsInside = []string{
	"/", "", "/a/../b", "/a/b/../../c", "/a/..", "/a/./b", "/a/%2e%2e/b", "/a%2f..%2fb", "/a/..;/b", "/a/..%2fb", "/v1/a%2fb/../c",
	"/a..b", "/..a", "/a..", "/a/..b/c", "/v1.2/x", "/.well-known/x", "/./a", "/%252e/x", "/100%25", "/a%2Fb%2Fc", "/%E4%B8%AD%E6%96%87/x",
	"/a%252fb/../x", "/a/b%252f..%252fc", "//a", "//", "/*", "/compare/main...dev", "/%ff", "/a;b=c/../d", "/%C3%A4/%2e%2e/x", "/a%5cb", "/%2fa/../b",
}

func TestLeavesBase(t *testing.T) {
	for want, paths := range map[bool][]string{true: pathsOutside, false: pathsInside} {
		for _, p := range paths {
			u, err := url.ParseRequestURI(p)
			if p == "" {
				u, err = new(url.URL), nil
			}
			if err != nil {
				u = &url.URL{Path: p}
			}
			if got := LeavesBase(u); got != want {
				t.Errorf("%s: got %v", p, got)
			}
		}
	}
	if !LeavesBase(&url.URL{Scheme: "http", Opaque: "x"}) {
		t.Error("an opaque URL passes")
	}
	long := strings.Repeat("%25", 1<<20) + "2e"
	if LeavesBase(&url.URL{Path: "/" + strings.Repeat("%", 1<<20), RawPath: "/" + long}) {
		t.Error("percent signs climb")
	}
}

// FuzzLeavesBase checks that a path that passes stays below the base, however often a
// server decodes it, and whether or not it resolves dot segments in between.
func FuzzLeavesBase(f *testing.F) {
	for _, p := range append(pathsOutside, pathsInside...) {
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		u, err := url.ParseRequestURI(raw)
		if err != nil || u.Path != "" && u.Path[0] != '/' || LeavesBase(u) {
			return
		}
		const base = "/tenant-a/api"
		joined := JoinURL(&url.URL{Scheme: "http", Host: "h", Path: base}, u)
		requireBelow(t, raw, base, joined.EscapedPath(), 4)
	})
}

// TestLeavesBaseOfMixtures: random mixtures of ambiguous parts do not pass if some reading of them
// climbs.
func TestLeavesBaseOfMixtures(t *testing.T) {
	pieces := []string{"/", "/", "/", "a", "b", "..", "..", ".", "%2e", "%2f", "%252f", "%252e", "%5c", "%255c", "%25", "2f", "2e", ";x", "%3b", "//", "%252525", "5c"}
	random := rand.New(rand.NewPCG(1, 2))
	passed := 0
	for range 5_000 {
		raw := "/"
		for range 1 + random.IntN(12) {
			raw += pieces[random.IntN(len(pieces))]
		}
		u, err := url.ParseRequestURI(raw)
		if err != nil || LeavesBase(u) {
			continue
		}
		passed++
		joined := JoinURL(&url.URL{Scheme: "http", Host: "h", Path: "/tenant-a/api"}, u)
		requireBelow(t, raw, "/tenant-a/api", joined.EscapedPath(), 4)
	}
	if passed < 500 {
		t.Errorf("only %d passed", passed)
	}
}

func requireBelow(t *testing.T, raw, base, at string, decodings int) {
	t.Helper()
	for _, seen := range []string{at, strings.ReplaceAll(at, `\`, "/"), withoutMatrix(at)} {
		resolved := path.Clean(seen)
		if resolved != base && !strings.HasPrefix(resolved, base+"/") && !strings.HasPrefix(resolved, base+";") {
			t.Fatalf("%q: %q is %q", raw, at, resolved)
		}
		if decodings == 0 {
			continue
		}
		for _, next := range []string{seen, resolved} {
			if decoded, err := url.PathUnescape(next); err == nil && decoded != at {
				requireBelow(t, raw, base, decoded, decodings-1)
			}
		}
	}
}

func withoutMatrix(p string) string {
	segments := strings.Split(p, "/")
	for i := range segments {
		segments[i], _, _ = strings.Cut(segments[i], ";")
	}
	return strings.Join(segments, "/")
}

func BenchmarkLeavesBase(b *testing.B) {
	for name, p := range map[string]string{"plain": "/v1/chat/completions/of/some/length", "dots": "/v1/chat/../completions"} {
		u := &url.URL{Path: p}
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				LeavesBase(u)
			}
		})
	}
}
