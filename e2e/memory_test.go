package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
)

// nothingKept waits until no memory is taken by bodies of the test's own.
func (p *proxy) nothingKept() {
	p.t.Helper()
	eventually(p.t, "bodies take no memory", func() bool { return p.kept() <= p.before })
}

// kept is how many bytes of memory bodies take.
func (p *proxy) kept() int64 {
	p.t.Helper()
	return int64(p.metrics()["caddy_failover_bodies_memory_bytes"])
}

// notKept is how many bodies of the pool api there was no memory for.
func (p *proxy) notKept() int {
	p.t.Helper()
	return int(p.metrics()[`caddy_failover_bodies_not_kept_total{pool="api"}`])
}

// filler is a pool that takes memory for the bodies of requests for the path held.
func filler(a *api) string {
	return at(held, pooled("filler", "retry {\n\t\tmethods any\n\t\tbuffer 64MiB\n\t}", a))
}

// fill takes the memory for bodies but so many bytes, by calls that stay at the filler's endpoint until free
// is called.
func (p *proxy) fill(a *api, left int64) (free func()) {
	p.t.Helper()
	arrived, leave := a.staying()
	var calls []<-chan answer
	for {
		samples := p.metrics()
		room := int64(samples["caddy_failover_bodies_memory_limit_bytes"]-samples["caddy_failover_bodies_memory_bytes"]) - left
		if room == 0 {
			break
		}
		if room < 0 {
			p.t.Fatalf("bodies have taken %d bytes that were to be left", -room)
		}
		n := min(room, smallBody) // takes as much as it has
		if room > 64<<10 {
			n = room * 3 / 4 // takes up to a fifth more
		}
		done := make(chan answer, 1)
		calls = append(calls, done)
		body := strings.NewReader(strings.Repeat("a", int(n)))
		go func() {
			defer close(done)
			if resp, err := p.do(http.MethodPost, held, body); err == nil {
				defer resp.Body.Close()
				text, _ := io.ReadAll(resp.Body)
				done <- answer{resp.StatusCode, resp.Header, string(text)}
			}
		}()
		receive(p.t, "a call that takes memory, at the endpoint", arrived)
	}
	return func() {
		p.t.Helper()
		leave()
		for _, call := range calls {
			if got := receive(p.t, "the answer to a call that took memory", call); got.status != 200 {
				p.t.Errorf("a call that took memory got %+v", got)
			}
		}
	}
}

// withMemory is a global option.
func withMemory(size string) string { return "failover {\n\tmemory " + size + "\n}" }

// TestBodiesArePassedOnWhereThereIsNoMemory: whole, but once. A call that needs its body in memory is refused
// for a moment.
func TestBodiesArePassedOnWhereThereIsNoMemory(t *testing.T) {
	one, two, three := newAPI(t, "one"), newAPI(t, "two"), newAPI(t, "three")
	p := startCaddyWith(t, withMemory("8MiB"), "route {\n"+filler(three)+"\n"+
		at("/json", edited("json", "", []*api{one}, "set_json a 1"))+"\n"+
		site("breaker off\n\tretry {\n\t\tmethods any\n\t\tbuffer 4MiB\n\t\tbudget 100% 1000\n\t}", one, two)+"\n}")
	sizes := []int{10, smallBody, smallBody + 1, 100_000, 3_000_000}
	free := p.fill(three, 0)
	before := p.notKept()
	wantNotKept := func(what string, want int) {
		t.Helper()
		if got := p.notKept() - before; got != want {
			t.Errorf("%s: %d bodies count as not kept, want %d", what, got, want)
		}
	}
	for i, size := range sizes {
		body := randomBody(size)
		p.call(http.MethodPost, "/", body).want(t, fmt.Sprint(size, " bytes without memory"), 200, "one"+digest(body))
		wantNotKept(fmt.Sprint(size, " bytes"), i+1)
	}
	if got := p.call(http.MethodPost, "/json", `{"b":2}`); got.status != 503 || got.header.Get("Retry-After") == "" || !strings.Contains(got.body, "out_of_memory") {
		t.Errorf("json: got %+v", got)
	}
	one.answer(http.StatusServiceUnavailable)
	for _, size := range sizes {
		p.call(http.MethodPost, "/", randomBody(size)).want(t, fmt.Sprint(size, " bytes that fail"), 503, "one says 503")
	}
	free()
	p.nothingKept()
	for _, size := range sizes {
		body := randomBody(size)
		p.call(http.MethodPost, "/", body).want(t, fmt.Sprint(size, " bytes with memory"), 200, "two"+digest(body))
	}
	wantNotKept("in all", 2*len(sizes))
	p.nothingKept()
}

// TestHeldAnswersArePassedOnWhereThereIsNoMemory, whole.
func TestHeldAnswersArePassedOnWhereThereIsNoMemory(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	text := randomBody(300_000)
	one.behave(named(text))
	p := startCaddyWith(t, withMemory("8MiB"), "route {\n"+filler(two)+"\n"+
		site("commit complete\n\tnext_on 200 nothing", one)+"\n}")
	before := p.notKept()
	for i, left := range []int64{0, 10_000, 100_000} {
		free := p.fill(two, left)
		if got := p.get(); got.status != 200 || got.body != text {
			t.Errorf("with %d bytes left: got %d and %d bytes", left, got.status, len(got.body))
		}
		if got := p.notKept() - before; got < i+1 {
			t.Errorf("with %d bytes left: %d answers count as not kept, want %d", left, got, i+1)
		}
		free()
		p.nothingKept()
	}
}

// TestTheMemoryIsConfigured in the global options, and follows reloads.
func TestTheMemoryIsConfigured(t *testing.T) {
	one := newAPI(t, "one")
	p := startCaddy(t, site("", one))
	limit := func() int64 { return int64(p.metrics()["caddy_failover_bodies_memory_limit_bytes"]) }
	byDefault := limit()
	if byDefault <= 0 {
		t.Fatalf("by default the limit is %d", byDefault)
	}
	for _, step := range []struct {
		global string
		want   int64
	}{
		{"", byDefault},
		{withMemory("2MiB"), 2 << 20},
		{withMemory("1GB"), 1_000_000_000},
		{"failover", byDefault},
		{withMemory("3MiB"), 3 << 20},
		{"", byDefault},
	} {
		if err := p.loadWith(step.global, site("", one)); err != nil {
			t.Fatal(err)
		}
		eventually(t, fmt.Sprintf("%q: the limit is %d", step.global, step.want), func() bool { return limit() == step.want })
	}
}

// TestUploadsTakeMemoryForWhatHasCome, however much they declare. What the heap grows by, some 100 MB, is compared
// with what it grows by where the stock proxy has the same uploads: net/http alone takes 64 KiB for each to copy
// them, and buffers of connections most of the rest.
func TestUploadsTakeMemoryForWhatHasCome(t *testing.T) {
	const uploads = 1000
	const each, own = 4 << 10, 12 << 10 // kept of the body at most, beside what has come; all else that a call takes
	arrived := make(chan struct{}, uploads)
	var open atomic.Int64
	one := &api{name: "one", address: listening(t, func(conn net.Conn) { // as little as an endpoint can be
		open.Add(1)
		defer open.Add(-1)
		var last [4]byte
		for string(last[:]) != "\r\n\r\n" {
			copy(last[:], last[1:])
			if _, err := conn.Read(last[3:]); err != nil {
				return
			}
		}
		for {
			if _, err := conn.Read(last[:1]); err != nil {
				return
			}
			arrived <- struct{}{}
		}
	})}
	grows := func(p *proxy, path string) int64 {
		t.Helper()
		before := heapInUse()
		var conns []net.Conn
		for range uploads {
			conn := p.dial()
			conns = append(conns, conn)
			fmt.Fprintf(conn, "PUT %s HTTP/1.1\r\nHost: api.test\r\nContent-Length: 1048576\r\n\r\na", path)
		}
		for range uploads {
			receive(t, "the byte that came, at the endpoint", arrived)
		}
		if path == "/" {
			if kept, most := p.kept()-p.before, int64(uploads+uploads/5+uploads*each); kept < uploads || kept > most {
				t.Errorf("%d uploads of a byte take %d bytes, want at most %d", uploads, kept, most)
			}
		}
		grown := heapInUse() - before
		for _, conn := range conns {
			conn.Close()
		}
		eventually(t, "the endpoint has no connection", func() bool { return open.Load() == 0 })
		return grown
	}
	p := startCaddy(t, "route {\n\treverse_proxy /stock "+one.address+"\n"+site("retry {\n\t\tmethods any\n\t\tbuffer 1MiB\n\t}", one)+"\n}")
	stock := grows(p, "/stock")
	grown := grows(p, "/")
	if more := grown - stock; more > uploads*(each+own) {
		t.Errorf("the heap grows by %d KiB, with the stock proxy by %d KiB: want at most %d KiB more", grown>>10, stock>>10, uploads*(each+own)>>10)
	}
	if got := p.notKept(); got != 0 {
		t.Errorf("%d bodies are not kept", got)
	}
	p.quiet()
	p.nothingKept()
}

// heapInUse is how many bytes of the heap are in use when what is garbage has been collected.
func heapInUse() int64 {
	runtime.GC()
	runtime.GC() // what was pooled until then
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse)
}
