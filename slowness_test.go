package failover

import (
	"context"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/slowness"
)

// TestGrayFailure lets the primary become slow, or hang, at 200 calls a second.
func TestGrayFailure(t *testing.T) {
	for name, gray := range map[string]roundTrip{
		"350 times slower": after(700*time.Millisecond, http.StatusOK),
		"hangs":            after(time.Hour, http.StatusOK),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLab(t, &Policy{Timeout: caddy.Duration(time.Second)}, "one:80", "two:80")
				if s := l.load(200, 3*time.Second); s.slow > 0 || s.failed > 0 {
					t.Fatalf("healthy: %+v", s)
				}
				l.on("one:80", gray)
				began := time.Now()
				found := make(chan time.Duration, 1)
				go func() {
					l.within(8*time.Second, "the primary is out", func() bool { return breakerNow(l.stateOf("one:80")) == breaker.Open })
					found <- time.Since(began)
				}()
				s := l.load(200, 8*time.Second)
				lost := <-found
				t.Logf("out after %v; %+v", lost, s)
				if lost > 500*time.Millisecond {
					t.Errorf("lost its traffic after %v only", lost)
				}
				if s.failed > 0 || s.slow >= s.calls*8/100 {
					t.Errorf("clients saw %+v", s)
				}
				if reason := copyNow(l.stateOf("one:80")).breaker.Opened; reason != breaker.ReasonSlower {
					t.Errorf("opened because of %q", reason)
				}
				l.on("one:80", after(2*time.Millisecond, http.StatusOK))
				began = time.Now()
				for breakerNow(l.stateOf("one:80")) != breaker.Closed && time.Since(began) < time.Minute {
					l.load(200, 250*time.Millisecond)
				}
				t.Logf("back after %v", time.Since(began))
				if state := breakerNow(l.stateOf("one:80")); state != breaker.Closed {
					t.Errorf("well for a minute, and %v", state)
				}
			})
		})
	}
}

// TestGrayFailureOfFewCalls: one call in 2 s is enough to find it.
func TestGrayFailureOfFewCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, &Policy{}, "one:80", "two:80")
		calls := func(n int) {
			for range n {
				time.Sleep(2 * time.Second)
				l.call(http.MethodGet, "/", "")
			}
		}
		calls(150)
		l.on("one:80", after(5*time.Second, http.StatusOK))
		calls(slowness.VerdictsSlow)
		if br := copyNow(l.stateOf("one:80")).breaker; br.Opened != breaker.ReasonSlower || br.State == breaker.Closed {
			t.Errorf("after %d slow calls it is %v", slowness.VerdictsSlow, br.State)
		}
	})
}

// TestSlowTrialsAreFoundEarly: an endpoint that hangs on is not waited for until
// its timeout when it is tried again.
func TestSlowTrialsAreFoundEarly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, &Policy{}, "one:80", "two:80")
		l.load(200, 3*time.Second)
		l.on("one:80", after(time.Hour, http.StatusOK))
		l.load(200, time.Second)
		one := l.stateOf("one:80")
		trials := totalsNow(one).Attempts
		done := make(chan struct{})
		go func() { l.load(200, 10*time.Second); close(done) }()
		l.within(7*time.Second, "a trial", func() bool { return totalsNow(one).Attempts > trials })
		took := l.within(time.Second, "the trial has failed", func() bool { return breakerNow(one) == breaker.Open })
		if took > 200*time.Millisecond {
			t.Errorf("found after %v", took)
		}
		if copyNow(one).breaker.Relapses != 1 {
			t.Errorf("%d relapses", copyNow(one).breaker.Relapses)
		}
		<-done
	})
}

// TestSlowTrialsFail: the answers are good, but as slow as before.
func TestSlowTrialsFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, &Policy{}, "one:80", "two:80")
		l.load(200, 3*time.Second)
		l.on("one:80", after(110*time.Millisecond, http.StatusOK))
		before := totalsNow(l.stateOf("one:80")).Attempts
		s := l.load(200, time.Minute)
		attempts := totalsNow(l.stateOf("one:80")).Attempts - before
		t.Logf("%d of %d calls in a minute of slowness; clients saw %+v", attempts, s.calls, s)
		if attempts > uint64(s.calls/100) {
			t.Errorf("the slow endpoint got %d of %d calls", attempts, s.calls)
		}
	})
}

// TestLastEndpointIsNeverTooSlow: with nowhere to go, slow is better than out.
func TestLastEndpointIsNeverTooSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, &Policy{}, "one:80", "two:80")
		l.load(200, 2*time.Second)
		l.on("two:80", func(*http.Request) (*http.Response, error) {
			return nil, errCut
		})
		l.on("one:80", after(700*time.Millisecond, http.StatusOK))
		l.stateOf("two:80").ChangeBreaker(func(br *breaker.Breaker) { br.Force(time.Now(), breaker.ForcedOpen) })
		if s := l.load(200, 5*time.Second); s.failed > 0 {
			t.Errorf("%+v", s)
		}
		if state := breakerNow(l.stateOf("one:80")); state != breaker.Closed {
			t.Errorf("the last endpoint is %v", state)
		}
		// when another one is there, it takes over
		l.on("two:80", after(2*time.Millisecond, http.StatusOK))
		l.stateOf("two:80").ChangeBreaker(func(br *breaker.Breaker) { br.Reset(time.Now()) })
		l.load(200, time.Second)
		if state := breakerNow(l.stateOf("one:80")); state != breaker.Open {
			t.Errorf("with another one there it is %v", state)
		}
	})
}

// slowBody is a client that sends its body over a time.
type slowBody struct{ left int }

func (s *slowBody) Read(p []byte) (int, error) {
	if s.left == 0 {
		return 0, io.EOF
	}
	s.left--
	time.Sleep(100 * time.Millisecond)
	p[0] = 'x'
	return 1, nil
}

// TestSlowClientsAreNoEvidence: uploads take seconds, the endpoint does not.
func TestSlowClientsAreNoEvidence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, &Policy{Timeout: caddy.Duration(time.Second)}, "one:80", "two:80")
		l.load(200, 2*time.Second)
		l.on("one:80", func(r *http.Request) (*http.Response, error) {
			if r.Body != nil {
				if _, err := io.Copy(io.Discard, r.Body); err != nil {
					return nil, err
				}
			}
			return after(2*time.Millisecond, http.StatusOK)(r)
		})
		done := make(chan int, 100)
		for range cap(done) {
			time.Sleep(20 * time.Millisecond)
			go func() { done <- l.callFrom(t.Context(), http.MethodPost, "/", &slowBody{30}).Code }()
		}
		for range cap(done) {
			if status := <-done; status != http.StatusOK {
				t.Errorf("status %d", status)
			}
		}
		if state := breakerNow(l.stateOf("one:80")); state != breaker.Closed {
			t.Errorf("the endpoint is %v", state)
		}
	})
}

// TestStreamsAreInTime: streams that go on for minutes say that they are in time
// when they begin, so that they count beside some that hang.
func TestStreamsAreInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, &Policy{}, "one:80", "two:80")
		l.load(200, 2*time.Second)
		var n atomic.Int64
		l.on("one:80", func(r *http.Request) (*http.Response, error) {
			if n.Add(1)%5 == 0 {
				return after(10*time.Second, http.StatusOK)(r)
			}
			if err := pauseFor(r.Context(), 2*time.Millisecond); err != nil {
				return nil, err
			}
			resp := respond(r, http.StatusOK, "")
			resp.Body = &slowResponse{left: 300}
			return resp, nil
		})
		l.load(20, 30*time.Second)
		if state := breakerNow(l.stateOf("one:80")); state != breaker.Closed {
			t.Errorf("a fifth of the calls is slow, and the endpoint %v", state)
		}
	})
}

type slowResponse struct{ left int }

func (s *slowResponse) Read(p []byte) (int, error) {
	if s.left == 0 {
		return 0, io.EOF
	}
	s.left--
	time.Sleep(100 * time.Millisecond)
	p[0] = 'x'
	return 1, nil
}

func (s *slowResponse) Close() error { return nil }

var errCut = io.ErrUnexpectedEOF

// impatience is a load whose clients give up after a time.
type impatience struct {
	rate     int // calls a second
	patience time.Duration
	method   string
	path     string
}

// lost is how many of the calls had no answer by then.
func (l *lab) lost(i impatience, lasting time.Duration) (lost, calls int) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range int(float64(i.rate) * lasting.Seconds()) {
		time.Sleep(time.Second / time.Duration(i.rate))
		calls++
		wg.Go(func() {
			ctx, leave := context.WithTimeout(context.Background(), i.patience)
			defer leave()
			body := ""
			if i.method == http.MethodPost {
				body = "{}"
			}
			if status := l.callWith(ctx, i.method, i.path, body).Code; status != http.StatusOK || ctx.Err() != nil {
				mu.Lock()
				lost++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return lost, calls
}

// TestClientsGiveUpBeforeTheTimeout lets the primary hang, at 5 calls a second whose clients
// leave long before the timeout. However much is known about it by then, hardly any call is lost.
func TestClientsGiveUpBeforeTheTimeout(t *testing.T) {
	stream := func(policy *Policy) { policy.Commit = &Commit{After: "first_byte"} }
	for name, c := range map[string]struct {
		good, most int
		load       impatience
		change     func(*Policy)
	}{
		"fresh":                 {0, 10, impatience{5, 3 * time.Second, http.MethodGet, "/"}, nil},
		"after 73 good calls":   {73, 10, impatience{5, 3 * time.Second, http.MethodGet, "/"}, nil},
		"after 573 good calls":  {573, 10, impatience{5, 3 * time.Second, http.MethodGet, "/"}, nil},
		"POST":                  {0, 10, impatience{5, 3 * time.Second, http.MethodPost, "/"}, nil},
		"less patient":          {0, 10, impatience{5, 1200 * time.Millisecond, http.MethodGet, "/"}, nil},
		"more patient":          {0, 10, impatience{5, 9 * time.Second, http.MethodGet, "/"}, nil},
		"few calls":             {0, 10, impatience{1, 3 * time.Second, http.MethodGet, "/"}, nil},
		"many calls":            {0, 20, impatience{20, 3 * time.Second, http.MethodGet, "/"}, nil},
		"first bytes of bodies": {0, 10, impatience{5, 3 * time.Second, http.MethodPost, "/"}, stream},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				policy := &Policy{Timeout: caddy.Duration(10 * time.Second), Retry: &Retry{Methods: []string{"any"}}}
				if c.change != nil {
					c.change(policy)
				}
				l := newLab(t, policy, "one:80", "two:80")
				l.load(20, time.Duration(c.good)*time.Second/20)
				l.on("one:80", hangs)
				lost, calls := l.lost(c.load, time.Minute)
				one := copyNow(l.stateOf("one:80"))
				t.Logf("%d of %d calls lost; %v because of %q", lost, calls, one.breaker.State, one.breaker.Opened)
				if lost > c.most {
					t.Errorf("%d of %d calls were lost, want at most %d", lost, calls, c.most)
				}
				if state := breakerNow(l.stateOf("two:80")); state != breaker.Closed {
					t.Errorf("the endpoint that answers is %v", state)
				}
				l.on("one:80", after(2*time.Millisecond, http.StatusOK))
				if lost, calls := l.lost(c.load, time.Minute); lost > 0 || breakerNow(l.stateOf("one:80")) != breaker.Closed {
					t.Errorf("well again: %d of %d calls lost, and %v", lost, calls, breakerNow(l.stateOf("one:80")))
				}
			})
		})
	}
}

// TestClientsThatGiveUpTakeNoLastEndpointOut lets both endpoints hang.
func TestClientsThatGiveUpTakeNoLastEndpointOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, &Policy{Timeout: caddy.Duration(10 * time.Second), Retry: &Retry{Methods: []string{"any"}}}, "one:80", "two:80")
		l.on("one:80", hangs)
		l.on("two:80", hangs)
		for range 20 {
			l.lost(impatience{5, 3 * time.Second, http.MethodGet, "/"}, 3*time.Second)
			if state := breakerNow(l.stateOf("two:80")); state != breaker.Closed {
				t.Fatalf("the last endpoint is %v", state)
			}
		}
		l.on("two:80", after(2*time.Millisecond, http.StatusOK))
		if lost, calls := l.lost(impatience{5, 3 * time.Second, http.MethodGet, "/"}, time.Minute); lost > 10 {
			t.Errorf("one of two is well: %d of %d calls lost", lost, calls)
		}
	})
}

// TestSlowEndpointsComeBackFromImpatience lets a few clients give up, one after the other, on an
// endpoint that always takes 20 s, and patient ones come then: it serves again.
func TestSlowEndpointsComeBackFromImpatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, &Policy{}, "one:80", "two:80")
		l.on("one:80", after(20*time.Second, http.StatusOK))
		l.on("two:80", after(20*time.Second, http.StatusOK))
		l.lost(impatience{1, 1500 * time.Millisecond, http.MethodGet, "/"}, 10*time.Second)
		if state := breakerNow(l.stateOf("one:80")); state == breaker.Closed {
			t.Fatalf("nothing has opened it")
		}
		lost, _ := l.lost(impatience{1, time.Minute, http.MethodGet, "/"}, 4*time.Minute)
		if state := breakerNow(l.stateOf("one:80")); state != breaker.Closed || lost > 0 {
			t.Errorf("after four minutes of patient clients: %v, and %d lost", state, lost)
		}
	})
}

// TestHostileClientsCloseNothing opens requests to a route that takes 20 s, and leaves, beside
// calls to another one that succeed.
func TestHostileClientsCloseNothing(t *testing.T) {
	for name, hostile := range map[string]impatience{
		"at once":                  {100, 1, http.MethodGet, "/slow"},
		"after less than a second": {100, 900 * time.Millisecond, http.MethodGet, "/slow"},
		"after 1.5 s":              {10, 1500 * time.Millisecond, http.MethodGet, "/slow"},
		"after 1.5 s, POST":        {10, 1500 * time.Millisecond, http.MethodPost, "/slow"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLab(t, &Policy{Retry: &Retry{Methods: []string{"any"}}, Breaker: &Breaker{SlowFactor: new(float64)}}, "one:80", "two:80")
				l.on("one:80", func(r *http.Request) (*http.Response, error) {
					if r.URL.Path == "/slow" {
						return after(20*time.Second, http.StatusOK)(r)
					}
					return after(2*time.Millisecond, http.StatusOK)(r)
				})
				done := make(chan struct{})
				go func() { l.lost(hostile, time.Minute); close(done) }()
				good, _ := l.lost(impatience{2, 3 * time.Second, http.MethodGet, "/"}, time.Minute)
				<-done
				if state := breakerNow(l.stateOf("one:80")); state != breaker.Closed || good > 0 {
					t.Errorf("%v, and %d good calls lost", state, good)
				}
			})
		})
	}
}
