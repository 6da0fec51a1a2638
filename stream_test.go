package failover

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// providers is a pool of providers, whose answers are awaited as commit says.
func providers(commit string, apis ...*provider) string {
	plain := make([]*api, len(apis))
	for i, a := range apis {
		plain[i] = a.api
	}
	return site(commit+`
	timeout 300ms
	idle_timeout 200ms
	retry {
		methods any
	}`, plain...)
}

// TestCommit lets the primary fail after its headers. What a client gets is the
// whole answer of the backup while nothing was committed, and an aborted stream
// after that; and the primary is blamed either way.
func TestCommit(t *testing.T) {
	const ( // what the client gets
		whole   = "the whole answer of the backup"
		aborted = "an aborted stream"
	)
	for _, test := range []struct {
		commit, model, want string
		blame               outcome
	}{
		{"headers", "headers-silence", aborted, stalled},
		{"headers", "cut", aborted, truncated},
		{"headers", "stall", aborted, stalled},
		{"first_byte", "headers-silence", whole, failedTimeout},
		{"first_byte", "cut", aborted, truncated},
		{"first_byte", "stall", aborted, stalled},
		{"complete", "headers-silence", whole, failedTimeout},
		{"complete", "cut", whole, truncated},
		{"complete", "stall", whole, stalled},
		{"complete 100B", "cut", aborted, truncated}, // two thirds are more than that
		{"complete 100B", "stall", aborted, stalled},
	} {
		for _, stream := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s %s stream=%t", test.commit, test.model, stream), func(t *testing.T) {
				one, two := newProvider(t, "one", true), newProvider(t, "two", false)
				p := startCaddy(t, providers("commit "+test.commit, one, two))
				began := time.Now()
				status, body, err := p.ask(false, stream, test.model)
				took := time.Since(began)
				switch {
				case test.want == whole && (err != nil || status != 200 || body != two.whole(false, stream, "")):
					t.Errorf("got %d %v %q", status, err, body)
				case test.want == aborted && (status != 200 || !errors.Is(err, io.ErrUnexpectedEOF)):
					t.Errorf("got %d %v %q", status, err, body)
				case test.want == aborted && !strings.HasPrefix(one.whole(false, stream, ""), body):
					t.Errorf("got %q", body)
				}
				if took > time.Second {
					t.Errorf("took %v", took)
				}
				if got := stateOf(t, "api", "one").lastOutcomeNow(); got != test.blame.String() {
					t.Errorf("the primary is blamed for %s, not %s", got, test.blame)
				}
				for _, name := range []string{"one", "two"} {
					if n := stateOf(t, "api", name).busy.Load(); n != 0 {
						t.Errorf("%d attempts are still in flight at %s", n, name)
					}
				}
			})
		}
	}
}

func (s *endpointState) lastOutcomeNow() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.countLocked(time.Now())
	list := s.last.names()
	if len(list) == 0 {
		return ""
	}
	return list[len(list)-1]
}

// TestEndsWithoutSentinel wants a stream that ends cleanly to end at once.
func TestEndsWithoutSentinel(t *testing.T) {
	for _, commit := range []string{"headers", "first_byte", "complete"} {
		one := newProvider(t, "one", true)
		p := startCaddy(t, providers("commit "+commit, one))
		for _, model := range []string{"no-sentinel", "malformed"} {
			began := time.Now()
			status, body, err := p.ask(false, true, model)
			if status != 200 || err != nil || body != one.whole(false, true, model) {
				t.Errorf("%s, %s: got %d %v %q", commit, model, status, err, body)
			}
			if took := time.Since(began); took > 150*time.Millisecond {
				t.Errorf("%s, %s: took %v", commit, model, took)
			}
			if got := stateOf(t, "api", "one").lastOutcomeNow(); got != "success" {
				t.Errorf("%s, %s: outcome %q", commit, model, got)
			}
		}
		if err := caddy.Stop(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestCompleteWithoutAnother wants an error where a held answer breaks and there
// is no other: nothing of it goes out.
func TestCompleteWithoutAnother(t *testing.T) {
	one := newProvider(t, "one", true)
	p := startCaddy(t, providers("commit complete", one))
	for model, want := range map[string]int{"cut": http.StatusBadGateway, "stall": http.StatusGatewayTimeout, "headers-silence": http.StatusGatewayTimeout} {
		status, body, err := p.ask(false, true, model)
		if err != nil || status != want || body != "" {
			t.Errorf("%s: got %d %v %q", model, status, err, body)
		}
	}
}

// TestAbortsHTTP2Streams wants a reset of the stream, and of no other.
func TestAbortsHTTP2Streams(t *testing.T) {
	one := newProvider(t, "one", true)
	p := startCaddy(t, "respond hi")
	config := strings.Replace(p.caddyfile(providers("", one)), "admin off", "admin off\n\tservers {\n\t\tprotocols h1 h2c\n\t}", 1)
	if err := caddy.Load(adapt(t, config), true); err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", p.socket)
	}, Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	defer transport.CloseIdleConnections()
	p.client = &http.Client{Transport: transport}
	for _, model := range []string{"cut", "stall"} {
		status, body, err := p.ask(false, true, model)
		if status != 200 || err == nil || !strings.Contains(err.Error(), "INTERNAL_ERROR") {
			t.Errorf("%s: got %d %v %q", model, status, err, body)
		}
	}
	if status, body, err := p.ask(false, true, "ok"); status != 200 || err != nil || body != one.whole(false, true, "") {
		t.Errorf("the next stream: got %d %v %q", status, err, body)
	}
}

// TestClientThatLeaves counts as nothing, in the middle of a stream as well.
func TestClientThatLeaves(t *testing.T) {
	for _, commit := range []string{"headers", "complete"} {
		one := newProvider(t, "one", true)
		p := startCaddy(t, strings.Replace(providers("commit "+commit, one), "200ms", "30s", 1))
		ctx, leave := context.WithCancel(context.Background())
		request, _ := http.NewRequestWithContext(ctx, http.MethodPost, "http://api.test/v1/chat/completions", strings.NewReader(`{"model":"stall","stream":true}`))
		left := make(chan struct{})
		go func() {
			defer close(left)
			resp, err := p.client.Do(request)
			if err == nil {
				_, _ = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
		}()
		state := stateOf(t, "api", "one")
		eventually(t, time.Second, "the answer has begun", func() bool {
			state.mu.Lock()
			defer state.mu.Unlock()
			for a := range state.inFlight.all() {
				return a.first.Load() > 0
			}
			return false
		})
		leave()
		<-left
		eventually(t, time.Second, "the attempt is over", func() bool { return state.busy.Load() == 0 })
		if got := state.totalsNow(); got != (totals{Attempts: 1, Cancelled: 1}) {
			t.Errorf("%s: totals are %+v", commit, got)
		}
		if err := caddy.Stop(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestHeldAnswersAreBounded holds many answers at once and measures what that
// takes: the bodies' size, in pieces that are used again.
func TestHeldAnswersAreBounded(t *testing.T) {
	const calls, size = 32, 1 << 20
	one := newAPI(t, "one")
	piece := strings.Repeat("x", 64<<10)
	var mu sync.Mutex
	waiting, let := 0, make(chan struct{})
	one.behave(func(w http.ResponseWriter, r *http.Request) {
		for range size/len(piece) - 1 {
			_, _ = io.WriteString(w, piece)
		}
		_ = http.NewResponseController(w).Flush()
		mu.Lock()
		waiting++
		gate := let
		mu.Unlock()
		<-gate
		_, _ = io.WriteString(w, piece)
	})
	p := startCaddy(t, site("commit complete", one))
	heap := func() int64 {
		runtime.GC()
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		return int64(stats.HeapAlloc)
	}
	var whole int
	round := func() (grown int64) {
		before := heap()
		var wg sync.WaitGroup
		results := make(chan int, calls)
		for range calls {
			wg.Go(func() {
				resp, err := p.do(http.MethodGet, "/", nil)
				if err != nil {
					results <- 0
					return
				}
				defer resp.Body.Close()
				n, _ := io.Copy(io.Discard, resp.Body)
				results <- int(n)
			})
		}
		state := stateOf(t, "api", "one")
		eventually(t, 10*time.Second, "all are held", func() bool {
			state.mu.Lock()
			defer state.mu.Unlock()
			n := 0
			for a := range state.inFlight.all() {
				if a.is(holding) && a.silent.Load() != 0 {
					n++
				}
			}
			mu.Lock()
			defer mu.Unlock()
			return n == calls && waiting == calls
		})
		grown = heap() - before
		mu.Lock()
		close(let)
		waiting, let = 0, make(chan struct{})
		mu.Unlock()
		wg.Wait()
		close(results)
		whole = 0
		for n := range results {
			if n == size {
				whole++
			}
		}
		return grown
	}
	grown := round()
	if whole != calls {
		t.Fatalf("%d of %d answers were whole", whole, calls)
	}
	t.Logf("%d answers of %d KiB held: heap grew by %d KiB, %.2f of their size", calls, size>>10, grown>>10, float64(grown)/(calls*size))
	if grown > calls*size*3/2 {
		t.Errorf("holding %d answers of 1 MiB took %d KiB", calls, grown>>10)
	}
	one.behave(func(w http.ResponseWriter, r *http.Request) {
		for range size / len(piece) {
			_, _ = io.WriteString(w, piece)
		}
	})
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 20 {
		resp, err := p.do(http.MethodGet, "/", nil)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
	runtime.ReadMemStats(&after)
	each := (after.TotalAlloc - before.TotalAlloc) / 20
	t.Logf("a further answer allocates %d KiB", each>>10)
	if each > size/2 {
		t.Errorf("another answer of 1 MiB allocates %d KiB", each>>10)
	}
}

// TestStreamError wants a last event, then the abort.
func TestStreamError(t *testing.T) {
	one := newProvider(t, "one", true)
	p := startCaddy(t, providers("stream_error\nbreaker off", one))
	for model, message := range map[string]string{
		"cut":             `{"type":"error","error":{"type":"upstream_error","code":"truncated","message":"the answer broke off"}}`,
		"stall":           `{"type":"error","error":{"type":"upstream_error","code":"stalled","message":"the answer stopped coming"}}`,
		"headers-silence": `{"type":"error","error":{"type":"upstream_error","code":"stalled","message":"the answer stopped coming"}}`,
	} {
		status, body, err := p.ask(false, true, model)
		if status != 200 || !errors.Is(err, io.ErrUnexpectedEOF) || !strings.HasSuffix(body, "\n\nevent: error\ndata: "+message+"\n\n") {
			t.Errorf("%s: got %d %v %q", model, status, err, body)
		}
		if status, body, err = p.ask(false, false, model); status != 200 || err == nil || strings.Contains(body, "event") {
			t.Errorf("%s, no stream: got %d %v %q", model, status, err, body)
		}
	}
	if status, body, err := p.ask(false, true, "ok"); status != 200 || err != nil || body != one.whole(false, true, "") {
		t.Errorf("got %d %v %q", status, err, body)
	}
}
