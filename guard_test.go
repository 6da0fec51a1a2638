package failover

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// TestProvidersThatMisbehave lets the primary fail in each way that LLM APIs have,
// with OpenAI's and Anthropic's endpoints, streaming and not. Each call ends with
// the whole answer of a provider that can give it, in time, and the primary is
// asked no more often than its failure justifies.
func TestProvidersThatMisbehave(t *testing.T) {
	const each = 2 // calls of a kind
	const all = 4 * each
	const timeout, idle = 300 * time.Millisecond, 250 * time.Millisecond
	for _, test := range []struct {
		model  string
		from   string // whose answer it is: the primary's, the backup's
		asked  [2]int // the primary: at least, at most
		status int
		quick  bool // no call waits for a timeout
	}{
		{model: "ok", from: "one", asked: [2]int{all, all}, quick: true},
		{model: "429", from: "two", asked: [2]int{1, 2}, quick: true},
		{model: "429-retry-after", from: "two", asked: [2]int{1, 1}, quick: true},
		{model: "500-once", from: "either", asked: [2]int{all, all}, quick: true},
		{model: "503", from: "two", asked: [2]int{5, 5}, quick: true},
		{model: "reset", from: "two", asked: [2]int{5, 5}, quick: true},
		{model: "silence", from: "two", asked: [2]int{5, 5}},
		{model: "headers-silence", from: "two", asked: [2]int{5, 5}},
		{model: "cut", from: "two", asked: [2]int{5, 5}, quick: true},
		{model: "stall", from: "two", asked: [2]int{5, 5}},
		{model: "malformed", from: "one", asked: [2]int{all, all}, quick: true}, // passes as it is
		{model: "no-sentinel", from: "one", asked: [2]int{all, all}, quick: true},
		{model: "context-length", from: "two", asked: [2]int{all, all}, quick: true},
		{model: "content-filter", asked: [2]int{all, all}, status: http.StatusBadRequest, quick: true},
	} {
		t.Run(test.model, func(t *testing.T) {
			one, two := newProvider(t, "one", true), newProvider(t, "two", false)
			p := startCaddy(t, edited(fmt.Sprintf(`
				timeout %v
				idle_timeout %v
				commit complete
				next_on 400 context_length_exceeded
				retry {
					methods any
				}
			`, timeout, idle), []*api{one.api, two.api}, "header Authorization one", "header Authorization two"))
			for range each {
				for kind := range 4 {
					anthropic, stream := kind&1 != 0, kind&2 != 0
					began := time.Now()
					status, body, err := p.ask(anthropic, stream, test.model)
					took := time.Since(began)
					if test.status != 0 {
						if err != nil || status != test.status || !strings.Contains(body, "content_filter") {
							t.Errorf("got %d %v %q", status, err, body)
						}
					} else {
						wants := []string{one.whole(anthropic, stream, test.model), two.whole(anthropic, stream, "")}
						switch test.from {
						case "one":
							wants = wants[:1]
						case "two":
							wants = wants[1:]
						}
						if err != nil || status != http.StatusOK || !slices.Contains(wants, body) {
							t.Errorf("anthropic %t, stream %t: got %d %v %q", anthropic, stream, status, err, body)
						}
					}
					most := timeout + idle + 150*time.Millisecond
					if test.quick {
						most = idle
					}
					if took > most {
						t.Errorf("anthropic %t, stream %t: took %v", anthropic, stream, took)
					}
				}
			}
			if n := one.times(test.model); n < test.asked[0] || n > test.asked[1] {
				t.Errorf("the primary was asked %d times, not %v", n, test.asked)
			}
			if test.status != 0 && two.times(test.model) != 0 {
				t.Errorf("the backup was asked %d times", two.times(test.model))
			}
		})
	}
}

// TestProviderThatComesBack is down for a while and then well: no call fails, and
// the primary gets its calls back.
func TestProviderThatComesBack(t *testing.T) {
	one, two := newProvider(t, "one", true), newProvider(t, "two", false)
	p := startCaddy(t, providers("commit complete\nbreaker {\nopen_for 500ms\nopen_max 500ms\n}", one, two))
	good := []string{one.whole(false, true, ""), two.whole(false, true, "")}
	calls, last := 0, ""
	took := eventually(t, 10*time.Second, "the primary has its calls back", func() bool {
		status, body, err := p.ask(false, true, "down-then-well")
		if calls++; err != nil || status != 200 || !slices.Contains(good, body) {
			t.Fatalf("call %d: got %d %v %q", calls, status, err, body)
		}
		last = body
		return stateOf(t, "api", "one").breakerNow() == stateClosed && last == good[0] && calls > 20
	})
	t.Logf("%d calls in %v, of which the primary was asked %d", calls, took, one.times("down-then-well"))
}

// A timed answer is one of a load, with when it was asked for.
type timed struct {
	at, took time.Duration
	status   int
	attempts string
}

// loadFor sends rate GETs a second for a time and calls fault once, after a part of it.
func (p *proxy) loadFor(rate int, whole, until time.Duration, fault func()) []timed {
	var mu sync.Mutex
	var all []timed
	var wg sync.WaitGroup
	ticker := time.NewTicker(time.Second / time.Duration(rate))
	defer ticker.Stop()
	began := time.Now()
	for now := range ticker.C {
		at := now.Sub(began)
		if at > whole {
			break
		}
		if at > until && fault != nil {
			fault()
			fault, until, began = nil, 0, now
			whole -= at
			at = 0
		}
		if fault != nil {
			at -= until
		}
		wg.Go(func() {
			sent := time.Now()
			a := timed{at: at}
			if resp, err := p.do(http.MethodGet, "/", nil); err == nil {
				a.status, a.attempts = resp.StatusCode, resp.Header.Get("X-Attempts")
				resp.Body.Close()
			}
			a.took = time.Since(sent)
			mu.Lock()
			all = append(all, a)
			mu.Unlock()
		})
	}
	wg.Wait()
	return all
}

// between are the times that answers took to calls of a part of the load, sorted,
// and how many of the answers were bad.
func between(all []timed, from, to time.Duration, counts func(timed) bool) (took []time.Duration, bad int) {
	for _, a := range all {
		if a.at < from || a.at >= to || !counts(a) {
			continue
		}
		took = append(took, a.took)
		if a.status != http.StatusOK {
			bad++
		}
	}
	slices.Sort(took)
	return took, bad
}

func part(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

// TestPrimaryThatHangs at 200 calls a second. With rescue, nobody waits for its
// timeout; with hedges, hardly anybody notices. What is measured is tried again
// where the machine may have been busy.
func TestPrimaryThatHangs(t *testing.T) {
	for _, test := range []struct {
		name, retry string
		check       func(t *testing.T, all []timed) error
	}{
		{"rescue", "attempts 3", rescuesInTime},
		{"hedge", "hedge 50ms", hedgesInTime},
	} {
		t.Run(test.name, func(t *testing.T) {
			for try := 1; ; try++ {
				err := hang(t, test.retry, test.check)
				if err == nil {
					return
				}
				if try == 3 {
					t.Fatal(err)
				}
				t.Logf("try %d: %v", try, err)
			}
		})
	}
}

func always(timed) bool { return true }

// hang lets the primary hang under a load.
func hang(t *testing.T, retry string, check func(t *testing.T, all []timed) error) error {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	one.behave(delayed(2*time.Millisecond, named("one")))
	two.behave(delayed(2*time.Millisecond, named("two")))
	p := startCaddy(t, "header >X-Attempts {http.failover.attempts}\n"+
		site("timeout 1s\nbreaker {\nopen_for 1s\n}\nretry {\n"+retry+"\n}", one, two))
	normal := int64(0)
	all := p.loadFor(200, 5*time.Second, 1500*time.Millisecond, func() {
		normal = two.hits.Load()
		one.behave(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	})
	if err := caddy.Stop(); err != nil {
		return err
	}
	before, _ := between(all, -time.Hour, 0, always)
	_, bad := between(all, -time.Hour, time.Hour, always)
	t.Logf("%d calls, %d failed; before: %d, p99 %v, of which the backup was asked %d", len(all), bad, len(before), part(before, 0.99), normal)
	if bad > 0 {
		return fmt.Errorf("%d calls failed", bad)
	}
	if float64(normal) > 0.06*float64(len(before)) {
		return fmt.Errorf("the backup was asked %d times for %d calls in normal traffic", normal, len(before))
	}
	return check(t, all)
}

func rescuesInTime(t *testing.T, all []timed) error {
	first, _ := between(all, 0, time.Second, always)
	// a trial of the primary shows by its second attempt
	then, _ := between(all, time.Second, time.Hour, func(a timed) bool { return a.attempts == "1" })
	with, _ := between(all, time.Second, time.Hour, always)
	trials := len(with) - len(then)
	t.Logf("first second: p50 %v p99 %v max %v; after: p99 %v max %v, and %d trials up to %v",
		part(first, 0.5), part(first, 0.99), part(first, 1), part(then, 0.99), part(then, 1), trials, part(with, 1))
	switch {
	case part(first, 1) > 600*time.Millisecond:
		return fmt.Errorf("a client waited %v in the first second", part(first, 1))
	case part(then, 1) > 50*time.Millisecond:
		return fmt.Errorf("a client waited %v after it", part(then, 1))
	case trials*50 > len(with):
		return fmt.Errorf("%d of %d calls were trials", trials, len(with))
	}
	return nil
}

func hedgesInTime(t *testing.T, all []timed) error {
	first, _ := between(all, 0, time.Second, always)
	then, _ := between(all, time.Second, time.Hour, always)
	t.Logf("first second: p50 %v p99 %v max %v; after: p50 %v p99 %v max %v",
		part(first, 0.5), part(first, 0.99), part(first, 1), part(then, 0.5), part(then, 0.99), part(then, 1))
	if p99 := part(then, 0.99); p99 > 100*time.Millisecond {
		return fmt.Errorf("p99 is %v after the first second", p99)
	}
	return nil
}

// TestHedgesByQuantile are about as many as the quantile leaves, and never more than
// their part of the calls.
func TestHedgesByQuantile(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	var mu sync.Mutex
	n := 0
	one.behave(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		n++
		wait := 2 * time.Millisecond
		if n%10 == 0 {
			wait = 60 * time.Millisecond
		}
		mu.Unlock()
		delayed(wait, named("one"))(w, r)
	})
	two.behave(delayed(2*time.Millisecond, named("two")))
	p := startCaddy(t, site("retry {\nhedge p80\n}\nbreaker {\nslow_factor 0\n}", one, two))
	p.loadFor(200, 1500*time.Millisecond, time.Hour, nil)
	eventually(t, time.Second, "what was saved up is used up", func() bool {
		p.loadFor(200, 100*time.Millisecond, time.Hour, nil)
		h := &runningPool(t, "api").hedges
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.saved < 2
	})
	hedged := two.hits.Load()
	all := p.loadFor(200, 2*time.Second, time.Hour, nil)
	hedges := two.hits.Load() - hedged
	t.Logf("%d hedges for %d calls, of which a tenth is slow", hedges, len(all))
	if hedges == 0 || float64(hedges) > 0.05*float64(len(all))+2 {
		t.Errorf("%d hedges for %d calls", hedges, len(all))
	}
}

// BenchmarkStreams passes answers of 4 MiB through a Caddy, with none of the options
// that guard them and with each.
func BenchmarkStreams(b *testing.B) {
	const size = 4 << 20
	piece := []byte(strings.Repeat("x", 32<<10))
	for _, options := range []string{"commit headers", "commit headers\nidle_timeout 30s", "commit first_byte", "commit complete", "commit complete 8MiB"} {
		b.Run(strings.ReplaceAll(options, "\n", ","), func(b *testing.B) {
			one := newAPI(b, "one")
			one.behave(func(w http.ResponseWriter, _ *http.Request) {
				for range size / len(piece) {
					_, _ = w.Write(piece)
				}
			})
			p := startCaddy(b, site(options, one))
			buffer := make([]byte, 64<<10)
			b.SetBytes(size)
			b.ReportAllocs()
			for b.Loop() {
				resp, err := p.do(http.MethodGet, "/", nil)
				if err != nil {
					b.Fatal(err)
				}
				n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{resp.Body}, buffer)
				resp.Body.Close()
				if n != size || err != nil {
					b.Fatal(n, err)
				}
			}
		})
	}
}
