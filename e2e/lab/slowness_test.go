package lab

import (
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"

	failover "github.com/apifailover/caddy-failover"
)

// TestGrayFailure has the primary become slow, or hang, at 200 calls a second.
func TestGrayFailure(t *testing.T) {
	for name, gray := range map[string]roundTrip{
		"350 times slower": after(700*time.Millisecond, http.StatusOK),
		"hangs":            after(time.Hour, http.StatusOK),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLab(t, &failover.Policy{Timeout: caddy.Duration(time.Second)}, "one:80", "two:80")
				if s := l.load(200, 3*time.Second); s.slow > 0 || s.failed > 0 {
					t.Fatalf("healthy: %+v", s)
				}
				l.on("one:80", gray)
				began := time.Now()
				found := make(chan time.Duration, 1)
				go func() {
					l.within(8*time.Second, "the primary is out", func() bool { return l.endpoint("one:80").state() == "open" })
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
				if moves := l.endpoint("one:80").moves(); len(moves) == 0 || moves[0].Reason != "slower_than_usual" {
					t.Errorf("opened because of %+v", moves)
				}
				l.on("one:80", after(2*time.Millisecond, http.StatusOK))
				began = time.Now()
				for l.endpoint("one:80").state() != "closed" && time.Since(began) < time.Minute {
					l.load(200, 250*time.Millisecond)
				}
				t.Logf("back after %v", time.Since(began))
				if state := l.endpoint("one:80").state(); state != "closed" {
					t.Errorf("well for a minute, and %v", state)
				}
			})
		})
	}
}

// TestGrayFailureOfFewCalls checks that one call in 2 s is enough to notice a slow endpoint.
func TestGrayFailureOfFewCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, &failover.Policy{}, "one:80", "two:80")
		calls := func(n int) {
			for range n {
				time.Sleep(2 * time.Second)
				l.call(http.MethodGet, "/", "")
			}
		}
		calls(150)
		l.on("one:80", after(5*time.Second, http.StatusOK))
		const enough = 10
		calls(enough)
		if moves := l.endpoint("one:80").moves(); len(moves) == 0 || moves[0].Reason != "slower_than_usual" {
			t.Errorf("after %d slow calls: %+v", enough, moves)
		}
	})
}

// TestSlowTrialsAreFoundEarly checks that a trial of an endpoint that still hangs ends before its
// timeout.
func TestSlowTrialsAreFoundEarly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, &failover.Policy{}, "one:80", "two:80")
		l.load(200, 3*time.Second)
		l.on("one:80", after(time.Hour, http.StatusOK))
		l.load(200, time.Second)
		one := l.endpoint("one:80")
		trials := one.totals().Attempts
		done := make(chan struct{})
		go func() { l.load(200, 10*time.Second); close(done) }()
		l.within(7*time.Second, "a trial", func() bool { return one.totals().Attempts > trials })
		took := l.within(time.Second, "the trial has failed", func() bool { return one.state() == "open" })
		if took > 200*time.Millisecond {
			t.Errorf("found after %v", took)
		}
		if moves := one.moves(); moves[len(moves)-1].Details["relapses"] != 1.0 {
			t.Errorf("moves: %+v", moves)
		}
		<-done
	})
}

// TestSlowTrialsFail checks that a trial fails if its good answer is as slow as before.
func TestSlowTrialsFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, &failover.Policy{}, "one:80", "two:80")
		l.load(200, 3*time.Second)
		l.on("one:80", after(110*time.Millisecond, http.StatusOK))
		before := l.endpoint("one:80").totals().Attempts
		s := l.load(200, time.Minute)
		attempts := l.endpoint("one:80").totals().Attempts - before
		t.Logf("%d of %d calls in a minute of slowness; clients saw %+v", attempts, s.calls, s)
		if attempts > uint64(s.calls/100) {
			t.Errorf("the slow endpoint got %d of %d calls", attempts, s.calls)
		}
	})
}

// TestLastEndpointIsNeverTooSlow checks that slowness never takes out the last endpoint.
func TestLastEndpointIsNeverTooSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, &failover.Policy{}, "one:80", "two:80")
		l.load(200, 2*time.Second)
		l.on("two:80", func(*http.Request) (*http.Response, error) {
			return nil, errCut
		})
		l.on("one:80", after(700*time.Millisecond, http.StatusOK))
		l.endpoint("two:80").order("trip", "")
		if s := l.load(200, 5*time.Second); s.failed > 0 {
			t.Errorf("%+v", s)
		}
		if state := l.endpoint("one:80").state(); state != "closed" {
			t.Errorf("the last endpoint is %v", state)
		}
		// when another one is there, it takes over
		l.on("two:80", after(2*time.Millisecond, http.StatusOK))
		l.endpoint("two:80").order("reset", "")
		l.load(200, time.Second)
		if state := l.endpoint("one:80").state(); state != "open" {
			t.Errorf("with another one there it is %v", state)
		}
	})
}

// slowBody is a body of `left` bytes. Each takes 100 ms.
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

func (s *slowBody) Close() error { return nil }

// TestSlowClientsAreNoEvidence checks that slow uploads do not make a quick endpoint look slow.
func TestSlowClientsAreNoEvidence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, &failover.Policy{Timeout: caddy.Duration(time.Second)}, "one:80", "two:80")
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
		if state := l.endpoint("one:80").state(); state != "closed" {
			t.Errorf("the endpoint is %v", state)
		}
	})
}

// TestStreamsAreInTime checks that streams of minutes count as in time from their beginning, so that
// they weigh against others that hang.
func TestStreamsAreInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, &failover.Policy{}, "one:80", "two:80")
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
			resp.Body = &slowBody{300}
			return resp, nil
		})
		l.load(20, 30*time.Second)
		if state := l.endpoint("one:80").state(); state != "closed" {
			t.Errorf("a fifth of the calls is slow, and the endpoint %v", state)
		}
	})
}
