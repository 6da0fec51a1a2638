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

// nothingKept waits until the test's own bodies take no memory.
func (p *proxy) nothingKept() {
	p.t.Helper()
	eventually(p.t, "bodies take no memory", func() bool { return p.kept() <= p.before })
}

// kept returns how many bytes of memory bodies take.
func (p *proxy) kept() int64 {
	p.t.Helper()
	return int64(p.metrics()["caddy_failover_bodies_memory_bytes"])
}

// notKept returns how many bodies of the pool api were not kept for lack of memory.
func (p *proxy) notKept() int {
	p.t.Helper()
	return int(p.metrics()[`caddy_failover_bodies_not_kept_total{pool="api"}`])
}

// filler returns a route for the path held, to a pool that keeps the bodies of its requests in memory.
func filler(a *api) string {
	return at(held, pooled("filler", "retry {\n\t\tmethods any\n\t\tbuffer 64MiB\n\t}", a))
}

// fill uses all memory for bodies except left bytes. Its calls stay at the filler's endpoint a until free is called.
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
			p.t.Fatalf("bodies take %d bytes more than wanted", -room)
		}
		n := min(room, smallBody) // a small body takes exactly its size
		if room > 64<<10 {
			n = room * 3 / 4 // a large one takes up to a fifth more
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
		receive(p.t, "a call of the filler at its endpoint", arrived)
	}
	return func() {
		p.t.Helper()
		leave()
		for _, call := range calls {
			if got := receive(p.t, "the answer to a call of the filler", call); got.status != 200 {
				p.t.Errorf("a call of the filler got %+v", got)
			}
		}
	}
}

// withMemory returns the global option that limits the memory for bodies.
func withMemory(size string) string { return "failover {\n\tmemory " + size + "\n}" }

// TestBodiesWithoutMemoryArePassedOn checks that without memory a body reaches its first endpoint whole and cannot be
// sent again, and that a call which needs its body in memory gets 503 with a Retry-After.
func TestBodiesWithoutMemoryArePassedOn(t *testing.T) {
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
		p.call(http.MethodPost, "/", randomBody(size)).want(t, fmt.Sprint(size, " bytes, and the endpoint fails"), 503, "one says 503")
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

// TestHeldAnswersWithoutMemoryArePassedOn checks that a response that would be held back goes out whole if there is
// no memory for it.
func TestHeldAnswersWithoutMemoryArePassedOn(t *testing.T) {
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

// TestTheMemoryIsConfigured checks that the limit follows the global option at each reload.
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

// TestUploadsTakeMemoryForReceivedBytes checks that the memory of uploads depends on the bytes received, not on the
// declared length. It compares the growth of the heap with that of the stock proxy under the same uploads, some 100 MB:
// net/http takes 64 KiB to copy each upload, and buffers of connections take most of the rest.
func TestUploadsTakeMemoryForReceivedBytes(t *testing.T) {
	const uploads = 1000
	const each, own = 4 << 10, 12 << 10 // most bytes per upload beyond those received; most for the rest of its call
	arrived := make(chan struct{}, uploads)
	var open atomic.Int64
	one := &api{name: "one", address: listening(t, func(conn net.Conn) { // takes hardly any memory itself
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
			receive(t, "the first byte at the endpoint", arrived)
		}
		if path == "/" {
			if kept, most := p.kept()-p.before, int64(uploads+uploads/5+uploads*each); kept < uploads || kept > most {
				t.Errorf("%d uploads of one byte take %d bytes, want at most %d", uploads, kept, most)
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

// heapInUse collects garbage and returns how many bytes of the heap are in use.
func heapInUse() int64 {
	runtime.GC()
	runtime.GC() // a sync.Pool drops its items at the second collection
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse)
}
