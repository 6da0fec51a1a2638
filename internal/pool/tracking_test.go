package pool

import (
	"reflect"
	"testing"
	"time"

	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/endpoint"
	"github.com/apifailover/caddy-failover/internal/outcome"
	"github.com/apifailover/caddy-failover/internal/sla"
)

// TestRoutesAreForgotten checks that the pool drops the counts of failovers to endpoints that have left.
func TestRoutesAreForgotten(t *testing.T) {
	p := newTestPool("routes")
	defer p.Outbox.Close()
	one := p.joinLocked(endpoint.Key{Name: "one", Address: "one:80"})
	two := p.joinLocked(endpoint.Key{Name: "two", Address: "two:80"})
	one.CountFailover("two", "reset")
	one.CountFailover("three", "reset")
	p.fold(time.Now())
	p.joinLocked(endpoint.Key{Name: "three", Address: "three:80"})
	p.dropLocked(two)
	p.fold(time.Now())
	if _, ok := one.total.Failovers[endpoint.Route{To: "three", Reason: "reset"}]; len(one.total.Failovers) != 1 || !ok {
		t.Errorf("left: %v", one.total.Failovers)
	}
}

// counts returns the counts of an endpoint of the last hour, without its down time. An empty name means
// the pool.
func counts(p *Pool, t testing.TB, endpoint string) sla.Counts {
	t.Helper()
	now := time.Now()
	p.fold(now)
	series := p.History.Pool()
	if endpoint != "" {
		series = p.History.Endpoint(endpoint)
	}
	counts := series.Counts(now, now.Add(-time.Hour), now.Add(time.Minute))
	counts.Down = 0
	return counts
}

// failed returns n failures of a kind.
func failed(kind sla.Kind, n uint64) (f sla.Failures) {
	f[kind-sla.Dial] = n
	return f
}

// TestFoldMovesEverythingOnce checks that no count is lost or doubled if one goroutine counts and another
// folds.
func TestFoldMovesEverythingOnce(t *testing.T) {
	p := newTestPool("fold")
	defer p.Outbox.Close()
	s := p.joinLocked(endpoint.Key{Name: "one", Address: "one:80"})
	cfg := &breaker.Config{Off: true}
	const n = 20000
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range n {
			now := time.Now()
			a := &fakeAttempt{began: now, latency: time.Millisecond}
			s.Acquire(a, now, cfg, nil, endpoint.AdmitNormally)
			s.SettleAnswer(a, now, cfg, outcome.Success, i%2 == 0)
			if i%2 == 1 {
				s.CountCall(outcome.FailedReset, time.Millisecond)
				s.CountFailover("two", "reset")
			}
		}
	}()
	for folding := true; folding; {
		select {
		case <-done:
			folding = false
		default:
		}
		p.fold(time.Now())
	}
	p.fold(time.Now())
	if got, want := counts(p, t, "one"), (sla.Counts{Calls: n}); got != want {
		t.Errorf("the endpoint: %+v, want %+v", got, want)
	}
	if got, want := counts(p, t, ""), (sla.Counts{Calls: n, Failures: failed(sla.Reset, n/2)}); got != want {
		t.Errorf("the pool: %+v, want %+v", got, want)
	}
	if want := map[endpoint.Route]uint64{{To: "two", Reason: "reset"}: n / 2}; !reflect.DeepEqual(s.total.Failovers, want) {
		t.Errorf("failovers: %v, want %v", s.total.Failovers, want)
	}
	if got := s.total.Durations.Buckets[0]; got != n {
		t.Errorf("%d durations, want %d", got, n)
	}
	if left := s.TakeFresh(time.Now()); left != nil {
		t.Errorf("something is left: %+v", left)
	}
}

// TestSamplesAreFolded checks that the next fold counts samples.
func TestSamplesAreFolded(t *testing.T) {
	p := newTestPool("folded")
	defer p.Outbox.Close()
	s, cfg := p.joinLocked(endpoint.Key{Name: "one", Address: "one:80"}), defaultBreaker()
	for range 3 {
		now := time.Now()
		if !s.Succeeded(begin(t, s.State, now, time.Second), cfg, false) {
			t.Fatal("an attempt left no sample")
		}
	}
	p.fold(time.Now())
	if got := s.total.Attempts.Successes(); got != 3 {
		t.Errorf("%d successes, want 3", got)
	}
}
