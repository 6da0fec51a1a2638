package web

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// testSource is a source whose snapshots are numbers. Its events come from a channel.
type testSource struct {
	snapshots atomic.Int64
	histories atomic.Int64
	past      []Event
	events    chan Event
	watching  atomic.Int64
}

func (s *testSource) source() Source {
	return Source{
		Pools:   func(time.Time) any { return s.snapshots.Add(1) },
		History: func(now, from time.Time) any { s.histories.Add(1); return now.Sub(from).String() },
		Past: func(after uint64) []Event {
			return slices.DeleteFunc(slices.Clone(s.past), func(e Event) bool { return e.ID <= after })
		},
		Watch: func(ctx context.Context, after uint64, each func(Event)) {
			s.watching.Add(1)
			defer s.watching.Add(-1)
			for {
				select {
				case <-ctx.Done():
					return
				case e := <-s.events:
					each(e)
				}
			}
		},
	}
}

func newTestSource() *testSource { return &testSource{events: make(chan Event)} }

// readOn returns what a viewer can read after a frame without waiting, and the last frame that it
// has read.
func readOn(from *frame) (plain string, last *frame) {
	for {
		select {
		case <-from.ready:
			from = from.next
			plain += string(from.plain)
		default:
			return plain, from
		}
	}
}

// TestViewersShareFrames checks that the feed renders once for all viewers, and nothing without
// viewers.
func TestViewersShareFrames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestSource()
		f := NewFeed(s.source())
		var at []*frame
		for range 100 {
			initial, from := f.join(time.Now(), "")
			if !bytes.Contains(initial.plain, []byte("event: snapshot\n")) || !bytes.Contains(initial.plain, []byte("event: history\n")) {
				t.Fatalf("the first frame of a viewer is %q", initial.plain)
			}
			at = append(at, from)
		}
		time.Sleep(5*time.Second + time.Millisecond)
		synctest.Wait()
		if n := s.snapshots.Load(); n != 6 { // one for the first viewer, and one each second
			t.Errorf("%d snapshots in 5 s for 100 viewers, want 6", n)
		}
		if n := s.histories.Load(); n != 1 {
			t.Errorf("%d histories in 5 s for 100 viewers, want 1", n)
		}
		for i := range at {
			plain, last := readOn(at[i])
			if n := strings.Count(plain, "event: snapshot\n"); n != 5 {
				t.Errorf("viewer %d got %d snapshots in 5 s, want 5", i, n)
			}
			at[i] = last
		}
		if at[0] != at[99] {
			t.Error("viewers do not share their frames")
		}
		for range 100 {
			f.leave()
		}
		synctest.Wait()
		rendered := s.snapshots.Load()
		time.Sleep(time.Minute)
		if n := s.snapshots.Load(); n != rendered {
			t.Errorf("%d snapshots without a viewer", n-rendered)
		}
		if s.watching.Load() != 0 {
			t.Error("the feed watches events without a viewer")
		}
	})
}

// TestEventsComeOnce checks that an event comes at once, and that a viewer that reconnects gets only
// the events after its last one.
func TestEventsComeOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestSource()
		for id := range uint64(300) {
			s.past = append(s.past, Event{id + 1, "past"})
		}
		f := NewFeed(s.source())
		initial, from := f.join(time.Now(), "")
		if n := bytes.Count(initial.plain, []byte("event: event\n")); n != eventsAtFirst {
			t.Errorf("a new viewer gets %d past events, want %d", n, eventsAtFirst)
		}
		s.events <- Event{301, "now"}
		synctest.Wait()
		if plain, _ := readOn(from); plain != fmt.Sprintf("event: event\nid: %s-301\ndata: \"now\"\n\n", f.epoch) {
			t.Errorf("an event came as %q", plain)
		}
		f.leave()
		for _, c := range []struct {
			lastEventID string
			want        int
		}{
			{f.epoch + "-298", 2},
			{f.epoch + "-300", 0},
			{f.epoch + "-50", 250},
			{"another-298", eventsAtFirst},
			{"298", eventsAtFirst},
			{f.epoch + "-x", eventsAtFirst},
		} {
			initial, _ := f.join(time.Now(), c.lastEventID)
			if n := bytes.Count(initial.plain, []byte("event: event\n")); n != c.want {
				t.Errorf("a viewer that reconnects after %q gets %d events, want %d", c.lastEventID, n, c.want)
			}
			f.leave()
		}
	})
}

func TestHistoryIsRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newTestSource()
		f := NewFeed(s.source())
		_, from := f.join(time.Now(), "")
		defer f.leave()
		time.Sleep(31 * time.Second)
		synctest.Wait()
		plain, _ := readOn(from)
		if n := strings.Count(plain, "event: history\ndata: \"2m0s\""); n != 3 {
			t.Errorf("%d updates of the last minutes in 31 s, want 3", n)
		}
		synctest.Wait()
	})
}

// TestFramesMakeOneDeflateStream checks that separately compressed frames make one stream
// in any sequence.
func TestFramesMakeOneDeflateStream(t *testing.T) {
	var packed bytes.Buffer
	var plain strings.Builder
	for i := range 50 {
		content := strings.Repeat(fmt.Sprintf("frame %d ", i), i*7)
		f := newFrame([]byte(content))
		plain.WriteString(content)
		packed.Write(f.packed)
		if i == 49 && len(f.packed) > len(content)/10 {
			t.Errorf("%d bytes are %d compressed, want a tenth at most", len(content), len(f.packed))
		}
	}
	packed.Write([]byte{1, 0, 0, 0xff, 0xff})
	got, err := io.ReadAll(flate.NewReader(&packed))
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != plain.String() {
		t.Error("the decompressed frames differ from the frames")
	}
}

// TestStreamIsOneGzipFile checks that the stream of a closed page is a complete gzip file.
func TestStreamIsOneGzipFile(t *testing.T) {
	for _, encoding := range []string{"gzip", "identity"} {
		s := newTestSource()
		p, err := NewPage("/failover", NewFeed(s.source()), Handlers{})
		if err != nil {
			t.Fatal(err)
		}
		server := httptest.NewServer(p)
		defer server.Close()
		r, _ := http.NewRequest(http.MethodGet, server.URL+"/failover/stream", nil)
		r.Header.Set("Accept-Encoding", encoding)
		resp, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		s.events <- Event{1, "something"}
		p.Close()
		var body io.Reader = resp.Body
		if encoding == "gzip" {
			if body, err = gzip.NewReader(resp.Body); err != nil {
				t.Fatal(err)
			}
		}
		content, err := io.ReadAll(body) // verifies checksum and size
		if err != nil {
			t.Fatalf("%s: the stream did not end well: %v", encoding, err)
		}
		for _, part := range []string{"retry: 2000\n", "event: hello\n", "event: history\n", "event: snapshot\n", "event: ready\n"} {
			if !strings.Contains(string(content), part) {
				t.Errorf("%s: the stream lacks %q:\n%s", encoding, part, content)
			}
		}
		eventuallyZero(t, &s.watching)
	}
}

// eventuallyZero waits until the feed watches no events.
func eventuallyZero(t *testing.T, watching *atomic.Int64) {
	t.Helper()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for range 6000 {
		if watching.Load() == 0 {
			return
		}
		<-ticker.C
	}
	t.Error("the feed still works after its viewer has left")
}

func TestWhatIsServed(t *testing.T) {
	f := NewFeed(newTestSource().source())
	below, err := NewPage("/ops/failover", f, Handlers{})
	if err != nil {
		t.Fatal(err)
	}
	root, err := NewPage("/", f, Handlers{})
	if err != nil {
		t.Fatal(err)
	}
	v := below.bundle.version
	for _, c := range []struct {
		page     *Page
		method   string
		path     string
		status   int
		location string
		caching  string
	}{
		{below, "GET", "/ops/failover", 200, "", "no-cache"},
		{below, "HEAD", "/ops/failover", 200, "", "no-cache"},
		{below, "GET", "/ops/failover/", 308, "../failover", ""},
		{below, "GET", "/ops/failover/" + v + "/app.js", 200, "", "public, max-age=31536000, immutable"},
		{below, "GET", "/ops/failover/" + v + "/lib/geist.woff2", 200, "", "public, max-age=31536000, immutable"},
		{below, "GET", "/ops/failover/older/app.js", 404, "", "no-store"},
		{below, "GET", "/ops/failover/" + v + "/index.html", 404, "", "no-store"},
		{below, "GET", "/ops/failover/" + v + "/../page.go", 404, "", "no-store"},
		{below, "HEAD", "/ops/failover/stream", 200, "", "no-store, no-transform"},
		{below, "POST", "/ops/failover", 405, "", ""},
		{below, "DELETE", "/ops/failover/stream", 405, "", ""},
		{below, "GET", "/ops/failover/detail", 404, "", "no-store"},
		{below, "GET", "/ops/failover/report", 404, "", "no-store"},
		{below, "GET", "/ops/failover/actions", 404, "", "no-store"},
		{below, "POST", "/ops/failover/actions", 405, "", ""},
		{below, "GET", "/ops/failovers", 404, "", ""},
		{root, "GET", "/", 200, "", "no-cache"},
		{root, "GET", "/" + v + "/app.js", 200, "", "public, max-age=31536000, immutable"},
	} {
		w := httptest.NewRecorder()
		c.page.ServeHTTP(w, httptest.NewRequest(c.method, c.path, nil))
		h := w.Result().Header
		if w.Code != c.status || h.Get("Location") != c.location || h.Get("Cache-Control") != c.caching {
			t.Errorf("%s %s: %d, Location %q, Cache-Control %q", c.method, c.path, w.Code, h.Get("Location"), h.Get("Cache-Control"))
		}
		if h.Get("Content-Security-Policy") != policy || h.Get("X-Content-Type-Options") != "nosniff" || h.Get("X-Frame-Options") != "DENY" {
			t.Errorf("%s %s: headers %v", c.method, c.path, h)
		}
		if c.method == "HEAD" && w.Body.Len() > 0 {
			t.Errorf("%s %s: the response has a body", c.method, c.path)
		}
		if c.status == 405 && h.Get("Allow") != "GET, HEAD" {
			t.Errorf("%s %s: Allow %q", c.method, c.path, h.Get("Allow"))
		}
	}
	for path, serves := range map[string]bool{"/": true, "/stream": true, "/" + v + "/x": true, "/api": false, "/failover": false} {
		if root.Serves(path) != serves {
			t.Errorf("at the root: Serves(%q) is %v", path, !serves)
		}
	}
	for path, serves := range map[string]bool{"/ops/failover": true, "/ops/failover/": true, "/ops/failover/x/y": true, "/ops/failoverx": false, "/ops": false, "/": false} {
		if below.Serves(path) != serves {
			t.Errorf("below a path: Serves(%q) is %v", path, !serves)
		}
	}
}

func TestAssetsAreCompressedAndRevalidated(t *testing.T) {
	p, err := NewPage("/failover", NewFeed(newTestSource().source()), Handlers{})
	if err != nil {
		t.Fatal(err)
	}
	get := func(path string, header ...string) *http.Response {
		r := httptest.NewRequest(http.MethodGet, path, nil)
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		w := httptest.NewRecorder()
		p.ServeHTTP(w, r)
		return w.Result()
	}
	script := "/failover/" + p.bundle.version + "/app.js"
	for accepts, encoding := range map[string]string{"gzip, deflate, br": "gzip", "br;q=1, GZIP;q=0.5": "gzip", "gzip;q=0": "", "": "", "br": ""} {
		resp := get(script, "Accept-Encoding", accepts)
		if resp.Header.Get("Content-Encoding") != encoding {
			t.Errorf("Accept-Encoding %q: Content-Encoding %q", accepts, resp.Header.Get("Content-Encoding"))
		}
		var body io.Reader = resp.Body
		if encoding != "" {
			if body, err = gzip.NewReader(resp.Body); err != nil {
				t.Fatal(err)
			}
		}
		if content, _ := io.ReadAll(body); !bytes.Equal(content, p.bundle.assets["app.js"].plain) {
			t.Errorf("Accept-Encoding %q: other content", accepts)
		}
	}
	first := get("/failover")
	if again := get("/failover", "If-None-Match", first.Header.Get("ETag")); again.StatusCode != http.StatusNotModified {
		t.Errorf("a page that has not changed: %d", again.StatusCode)
	}
}

// TestAssetsAreWhole checks that the page's files refer only to files of the page.
func TestAssetsAreWhole(t *testing.T) {
	b, err := theBundle()
	if err != nil {
		t.Fatal(err)
	}
	index, err := b.pageFor("/failover")
	if err != nil {
		t.Fatal(err)
	}
	total := len(index.packed)
	for name, a := range b.assets {
		size := len(a.plain)
		if a.packed != nil {
			size = len(a.packed)
		}
		if !strings.HasSuffix(name, ".LICENSE") {
			total += size
			t.Logf("%-22s %6d bytes", name, size)
		}
		if strings.HasPrefix(name, "lib/") || strings.HasSuffix(name, ".svg") {
			continue
		}
		for _, word := range []string{"http://", "https://", "//"} {
			for line := range strings.Lines(string(a.plain)) {
				if at := strings.Index(line, word); at >= 0 && !strings.HasPrefix(strings.TrimSpace(line[at:]), "// ") && !strings.Contains(line, "www.w3.org/2000/svg") {
					t.Errorf("%s refers to another host: %s", name, line)
				}
			}
		}
	}
	t.Logf("the whole page: %d bytes compressed", total)
	if total > 150<<10 {
		t.Errorf("the whole page is %d bytes compressed, want 150 KiB at most", total)
	}
	for _, attribute := range []string{`src="`, `href="`} {
		for part := range strings.SplitSeq(string(index.plain), attribute) {
			url, _, _ := strings.Cut(part, `"`)
			if name, ok := strings.CutPrefix(url, "failover/"+b.version+"/"); ok && b.assets[name] == nil {
				t.Errorf("the page refers to %s, which does not exist", name)
			}
		}
	}
	for name := range b.assets {
		if path, ok := strings.CutSuffix(name, ".js"); ok && name != "app.js" && !strings.Contains(string(index.plain), path) {
			t.Errorf("the page does not name %s, so it loads it late", name)
		}
	}
}

// BenchmarkSecondOf100Viewers has 100 viewers of 50 endpoints on real connections. One
// operation is one second. %core is the CPU time it takes, including the readers.
func BenchmarkSecondOf100Viewers(b *testing.B) {
	endpoints := make([]map[string]any, 50)
	for i := range endpoints {
		endpoints[i] = map[string]any{
			"name": fmt.Sprintf("endpoint-%d", i), "url": "https://api.example/v1", "address": "192.0.2.7:443", "priority": 1, "weight": 1.0,
			"state": "closed", "draining": false, "share": 1.0, "score": rand.Float64(), "traffic": rand.Float64() / 50, "in_flight": rand.IntN(9), "attempts": rand.IntN(1e6),
			"successes": rand.IntN(1e6), "failures": rand.IntN(1e4), "cancelled": 2, "last_outcomes": slices.Repeat([]string{"success"}, 20),
			"latency": map[string]float64{"p50": rand.Float64(), "p95": rand.Float64(), "p99": rand.Float64()},
		}
	}
	f := NewFeed(Source{
		Pools:   func(time.Time) any { return []any{map[string]any{"name": "api", "endpoints": endpoints}} },
		History: func(now, from time.Time) any { return nil },
		Past:    func(uint64) []Event { return nil },
		Watch:   func(ctx context.Context, _ uint64, _ func(Event)) { <-ctx.Done() },
	})
	p, err := NewPage("/failover", f, Handlers{})
	if err != nil {
		b.Fatal(err)
	}
	server := httptest.NewServer(p)
	defer server.Close()
	defer p.Close()
	var reading sync.WaitGroup
	reads := make([]chan int, 100) // numbers of bytes to read
	for i := range reads {
		r, _ := http.NewRequest(http.MethodGet, server.URL+"/failover/stream", nil)
		r.Header.Set("Accept-Encoding", "gzip")
		resp, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			b.Fatal(err)
		}
		defer resp.Body.Close()
		if _, err := gzip.NewReader(resp.Body); err != nil { // may read more than the header
			b.Fatal(err)
		}
		reads[i] = make(chan int, 1)
		go func() {
			for n := range reads[i] {
				_, _ = io.CopyN(io.Discard, resp.Body, int64(n))
				reading.Done()
			}
		}()
	}
	var before, after syscall.Rusage
	size := 0
	b.ReportAllocs()
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &before)
	for b.Loop() {
		snapshot := f.snapshot(time.Now())
		size = len(newFrame(snapshot).packed)
		reading.Add(len(reads))
		for _, c := range reads {
			c <- size
		}
		f.publish(b.Context(), snapshot, nil)
		reading.Wait()
	}
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &after)
	for _, c := range reads {
		close(c)
	}
	used := time.Duration(after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano())
	b.ReportMetric(100*used.Seconds()/float64(b.N), "%core")
	b.ReportMetric(float64(size), "bytes/viewer")
}

func TestBadDataIsAnError(t *testing.T) {
	if got := string(appendMessage(nil, "snapshot", "", func() {})); !strings.HasPrefix(got, "event: error\ndata: \"encoding snapshot: ") {
		t.Errorf("what cannot be encoded came as %q", got)
	}
	if got := string(appendMessage(nil, "event", "a-1", map[string]string{"text": "two\nlines"})); got != "event: event\nid: a-1\ndata: {\"text\":\"two\\nlines\"}\n\n" {
		t.Errorf("an event came as %q", got)
	}
}
