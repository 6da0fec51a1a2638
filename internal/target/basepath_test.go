package target

import (
	"math/rand/v2"
	"net/url"
	"os"
	"path"
	"strings"
	"testing"
)

// paths returns the lines of a file in testdata. paths_outside.txt has paths that some server resolves to
// a place outside the base URL's path, and paths_inside.txt paths that every server resolves to a place
// below it.
func paths(t testing.TB, file string) []string {
	t.Helper()
	text, err := os.ReadFile("testdata/" + file)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(text))
}

// TestLeavesBase checks which paths lead out of the base URL's path.
func TestLeavesBase(t *testing.T) {
	for want, file := range map[bool]string{true: "paths_outside.txt", false: "paths_inside.txt"} {
		for _, p := range paths(t, file) {
			u, err := url.ParseRequestURI(p)
			if err != nil {
				u = &url.URL{Path: p}
			}
			if got := LeavesBase(u); got != want {
				t.Errorf("%s: got %v", p, got)
			}
		}
	}
	if LeavesBase(new(url.URL)) {
		t.Error("an empty path leads out of the base")
	}
	if !LeavesBase(&url.URL{Scheme: "http", Opaque: "x"}) {
		t.Error("an opaque URL passes")
	}
	long := strings.Repeat("%25", 1<<20) + "2e"
	if LeavesBase(&url.URL{Path: "/" + strings.Repeat("%", 1<<20), RawPath: "/" + long}) {
		t.Error("percent signs lead out of the base")
	}
}

// FuzzLeavesBase checks that a path that passes stays below the base, however often a
// server decodes it, and whether or not it resolves dot segments in between.
func FuzzLeavesBase(f *testing.F) {
	for _, p := range append(paths(f, "paths_outside.txt"), paths(f, "paths_inside.txt")...) {
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
