package lab

import (
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// go test -run TestAllUnseenFaults -v ./e2e/lab -args -unseen.runs 7 -unseen.only "for 1m0s at 200"
// measures when the primary has its traffic back.
var (
	unseenOnly = flag.String("unseen.only", "", "a part of the names of the outages to play (default all)")
	unseenRuns = flag.Int("unseen.runs", 0, "how many times to play each outage (default none)")
)

// An unseen is a fault of the primary. Its checks pass, if it is not seen.
type unseen struct {
	name    string
	options string
	ill     roundTrip // for calls
	well    roundTrip // for calls
	streams bool      // answers are for the client as they come
	posts   bool      // every other call is a POST, and only these fail; only these are counted
	seen    bool      // checks fail, too
}

const unseenOptions = `failover {
	name lab
	endpoint http://one.test
	endpoint http://two.test
	endpoint http://three.test
	timeout 1s
	commit complete
	answer 200 json error as failure
	retry {
		methods any
	}
	%s
	%s
}`

const unseenChecks = `health {
	uri /health
	interval 1s
	fast_interval 500ms
	timeout 1s
}`

var quickly = after(2*time.Millisecond, http.StatusOK)

var unseenFaults = []unseen{
	{name: "30 % 500", ill: failsSometimes(0.3)},
	{name: "60 % 500", ill: failsSometimes(0.6)},
	{name: "503", ill: after(2*time.Millisecond, http.StatusServiceUnavailable)},
	{name: "POST 503", ill: after(2*time.Millisecond, http.StatusServiceUnavailable), posts: true},
	{name: "POST 503 by scope", options: "scope {method}", ill: after(2*time.Millisecond, http.StatusServiceUnavailable), posts: true},
	{name: "error in a 200", ill: saysJSON(`{"error":{"type":"internal_error"}}`), well: saysJSON(`{"ok":true}`)},
	{name: "cut bodies", ill: cutsBody, well: saysJSON(`{"ok":true}`)},
	{name: "350 times slower", ill: after(700*time.Millisecond, http.StatusOK)},
	{name: "slow streams", ill: sends(60, 2*time.Second, token), well: sends(60, 20*time.Millisecond, token), streams: true},
	{name: "stalled bodies", ill: stallsBody, well: saysJSON(`{"ok":true}`)},
	{name: "crash", ill: refusesConnections},
	{name: "hang", ill: hangs},
	{name: "crash, seen", ill: refusesConnections, seen: true},
	{name: "hang, seen", ill: hangs, seen: true},
	{name: "503, seen", ill: after(2*time.Millisecond, http.StatusServiceUnavailable), seen: true},
	{name: "350 times slower, seen", ill: after(700*time.Millisecond, http.StatusOK), seen: true},
}

func stallsBody(r *http.Request) (*http.Response, error) {
	resp := streamOf(r, func(ctx context.Context, w io.Writer) error {
		if _, err := io.WriteString(w, "half"); err != nil {
			return err
		}
		<-ctx.Done()
		return ctx.Err()
	})
	resp.Header.Set("Content-Type", "application/json")
	return resp, nil
}

func saysJSON(body string) roundTrip {
	return func(r *http.Request) (*http.Response, error) {
		if err := pauseFor(r.Context(), 2*time.Millisecond); err != nil {
			return nil, err
		}
		return respond(r, http.StatusOK, body, "Content-Type", "application/json"), nil
	}
}

func cutsBody(r *http.Request) (*http.Response, error) {
	resp := respond(r, http.StatusOK, "")
	resp.Body, resp.ContentLength = &cutBody{}, 100
	return resp, nil
}

// cutBody is a body that breaks off.
type cutBody struct{ begun bool }

func (b *cutBody) Read(p []byte) (int, error) {
	if b.begun {
		return 0, errCut
	}
	b.begun = true
	return copy(p, "half"), nil
}

func (*cutBody) Close() error { return nil }

// An unseenResult is what came of one outage.
type unseenResult struct {
	back   time.Duration // from the heal to the first second of which the primary answers 90 %
	ill    int           // attempts at the ill primary in the last ten seconds
	failed int           // that clients saw
	slow   int           // that took longer than 100 ms and were not slow streams
}

func (f *unseen) play(t *testing.T, rate int, checks bool, lasts time.Duration) (result unseenResult) {
	health := ""
	if checks {
		health = unseenChecks
	}
	options := fmt.Sprintf(unseenOptions, f.options, health)
	if f.streams {
		options = strings.Replace(options, "commit complete", "", 1)
	}
	l := openLab(t, options)
	defer l.close()
	well := f.well
	if well == nil {
		well = quickly
	}
	var mu sync.Mutex
	isIll, during := false, 0
	var healed time.Time
	var served []time.Time // begin of the calls that the primary served after the heal
	l.on("two.test:80", well)
	l.on("three.test:80", well)
	counts := func(r *http.Request) bool { return !f.posts || r.Method == http.MethodPost }
	l.on("one.test:80", func(r *http.Request) (*http.Response, error) {
		if r.URL.Path == "/health" {
			mu.Lock()
			bad := isIll && f.seen
			mu.Unlock()
			if bad {
				return f.ill(r)
			}
			return quickly(r)
		}
		mu.Lock()
		bad := isIll && counts(r)
		if bad {
			during++
		}
		if !healed.IsZero() && counts(r) {
			served = append(served, time.Now())
		}
		mu.Unlock()
		if bad {
			return f.ill(r)
		}
		return well(r)
	})
	failed, slow, i := 0, 0, 0
	var calls sync.WaitGroup
	back := func() bool {
		mu.Lock()
		defer mu.Unlock()
		due := rate * 9 / 10
		if f.posts {
			due /= 2
		}
		for len(served) >= due {
			if served[due-1].Sub(served[0]) < time.Second {
				return true
			}
			served = served[1:]
		}
		return false
	}
	load := func(lasting time.Duration, until func() bool) {
		for range int(float64(rate) * lasting.Seconds()) {
			time.Sleep(time.Second / time.Duration(rate))
			i++
			method, body := http.MethodGet, ""
			if f.posts && i%2 == 0 {
				method, body = http.MethodPost, "{}"
			}
			calls.Go(func() {
				began := time.Now()
				code := l.call(method, "/", body).Code
				mu.Lock()
				defer mu.Unlock()
				if code != http.StatusOK {
					failed++
				}
				if time.Since(began) > 100*time.Millisecond {
					slow++
				}
			})
			if until != nil && i%max(1, rate/20) == 0 && until() {
				break
			}
		}
	}
	load(max(20*time.Second, 300*time.Second/time.Duration(rate)), nil)
	mu.Lock()
	isIll, slow = true, 0
	mu.Unlock()
	load(lasts+rand.N(10*time.Second)-10*time.Second, nil)
	mu.Lock()
	during = 0
	mu.Unlock()
	load(10*time.Second, nil)
	mu.Lock()
	result.ill, result.slow = during, slow
	isIll, healed = false, time.Now()
	mu.Unlock()
	result.back = time.Minute
	load(time.Minute, back)
	calls.Wait()
	if back() {
		result.back = served[0].Sub(healed)
	}
	result.failed = failed
	return result
}

// TestAllUnseenFaults plays every fault at all rates, with and without checks, for outages of up to 10
// minutes. It only logs, and plays nothing unless -unseen.runs says how often.
func TestAllUnseenFaults(t *testing.T) {
	if *unseenRuns == 0 {
		return
	}
	for _, lasts := range []time.Duration{20 * time.Second, time.Minute, 10 * time.Minute} {
		for _, rate := range []int{5, 20, 200} {
			for _, checks := range []bool{true, false} {
				for _, f := range unseenFaults {
					name := fmt.Sprintf("%s for %v at %d a second, checks %t", f.name, lasts, rate, checks)
					if !strings.Contains(name, *unseenOnly) || f.streams && rate > 20 {
						continue
					}
					t.Run(name, func(t *testing.T) {
						var back []time.Duration
						var sum unseenResult
						for range *unseenRuns {
							synctest.Test(t, func(t *testing.T) {
								r := f.play(t, rate, checks, lasts)
								back = append(back, r.back)
								sum.ill += r.ill
								sum.failed += r.failed
								sum.slow += r.slow
							})
						}
						slices.Sort(back)
						runs := float64(len(back))
						t.Logf("back after %.1f s, at worst %.1f s; %.1f attempts at the ill primary in the last 10 s, %.1f calls slow, %.1f failed",
							back[len(back)/2].Seconds(), back[len(back)-1].Seconds(), float64(sum.ill)/runs, float64(sum.slow)/runs, float64(sum.failed)/runs)
					})
				}
			}
		}
	}
}

// TestFewAttemptsAtAFlappingPrimary checks that a primary that fails every call for 2 s and is well for 1 s,
// again and again, while checks pass, gets few calls while it is ill.
func TestFewAttemptsAtAFlappingPrimary(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := openLab(t, fmt.Sprintf(unseenOptions, "", unseenChecks))
		defer l.close()
		const warm, period, ill = 20 * time.Second, 3 * time.Second, 2 * time.Second
		const cycles, rate = 20, 100
		began := time.Now()
		bad := after(2*time.Millisecond, http.StatusServiceUnavailable)
		var mu sync.Mutex
		failed, served := 0, 0
		l.on("two.test:80", quickly)
		l.on("three.test:80", quickly)
		l.on("one.test:80", func(r *http.Request) (*http.Response, error) {
			isIll := time.Since(began) > warm && (time.Since(began)-warm)%period < ill
			if r.URL.Path == "/health" {
				return quickly(r)
			}
			mu.Lock()
			if isIll {
				failed++
			} else if time.Since(began) > warm {
				served++
			}
			mu.Unlock()
			if isIll {
				return bad(r)
			}
			return quickly(r)
		})
		if s := l.load(rate, warm+cycles*period); s.failed > 0 {
			t.Errorf("clients saw %d failures", s.failed)
		}
		t.Logf("%d calls while it was ill %d times, %d while it was well", failed, cycles, served)
		if failed > 3*cycles {
			t.Errorf("%d calls while it was ill %d times", failed, cycles)
		}
	})
}

// TestColdReturnUnseen checks that a primary that failed all calls while checks passed, and returns with little
// capacity, refuses few calls.
func TestColdReturnUnseen(t *testing.T) {
	const times, rate = 2, 200
	refused := 0
	for range times {
		synctest.Test(t, func(t *testing.T) {
			l := openLab(t, fmt.Sprintf(unseenOptions, "", unseenChecks))
			defer l.close()
			for _, host := range []string{"one.test:80", "two.test:80", "three.test:80"} {
				l.on(host, quickly)
			}
			l.load(rate, 20*time.Second)
			l.on("one.test:80", func(r *http.Request) (*http.Response, error) {
				if r.URL.Path == "/health" {
					return quickly(r)
				}
				return answersWith(http.StatusServiceUnavailable)(r)
			})
			l.load(rate, 20*time.Second+rand.N(10*time.Second))
			grows := cold(10, 40, 400)
			var mu sync.Mutex
			l.on("one.test:80", func(r *http.Request) (*http.Response, error) {
				resp, err := grows(r)
				mu.Lock()
				defer mu.Unlock()
				if err != nil || resp.StatusCode != http.StatusOK {
					refused++
				}
				return resp, err
			})
			if s := l.load(rate, 30*time.Second); s.failed > 0 {
				t.Errorf("clients saw %d failures", s.failed)
			}
		})
	}
	t.Logf("%.1f calls refused after each heal", float64(refused)/times)
	if refused > 40*times {
		t.Errorf("%d calls refused after %d heals", refused, times)
	}
}
