package pool

import (
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/endpoint"
	"github.com/apifailover/caddy-failover/internal/outcome"
	"github.com/apifailover/caddy-failover/internal/target"
)

// A fakeAttempt is an attempt without a request. The control loop never ends it.
type fakeAttempt struct {
	endpoint.Ticket
	began    time.Time
	latency  time.Duration // to the first byte; 0 before it
	patience time.Duration
}

func (f *fakeAttempt) HasStarted() bool                                  { return true }
func (f *fakeAttempt) StartedAt() time.Time                              { return f.began }
func (f *fakeAttempt) FirstByte() time.Duration                          { return f.latency }
func (f *fakeAttempt) WaitedFor(now time.Time) time.Duration             { return now.Sub(f.began) }
func (f *fakeAttempt) Uploads() bool                                     { return false }
func (f *fakeAttempt) WaitsForClient() bool                              { return false }
func (f *fakeAttempt) Flow() *endpoint.Flow                              { return nil }
func (f *fakeAttempt) MeasureFlow()                                      {}
func (f *fakeAttempt) RecordsCall(d time.Duration) (time.Duration, bool) { return d, true }
func (f *fakeAttempt) Look(time.Time, bool) endpoint.Ending              { return endpoint.NotEnded }
func (f *fakeAttempt) Act(endpoint.Ending, time.Time)                    {}
func (f *fakeAttempt) PatienceLeft() time.Duration                       { return f.patience }

// begin starts an attempt whose first byte arrives after a millisecond.
func begin(t testing.TB, s *endpoint.State, now time.Time, patience time.Duration) *fakeAttempt {
	t.Helper()
	f := &fakeAttempt{began: now, latency: time.Millisecond, patience: patience}
	if !s.Acquire(f, now, defaultBreaker(), nil, endpoint.AdmitNormally) {
		t.Fatal("not admitted")
	}
	return f
}

// settle ends an attempt with an outcome.
func settle(s *endpoint.State, f *fakeAttempt, now time.Time, o outcome.Outcome) {
	s.Settle(f, now, defaultBreaker(), o, true, endpoint.NoDoubt)
}

// isOpen reports whether an endpoint's breaker is open.
func isOpen(s *endpoint.State, now time.Time) bool {
	return s.Stands(now, defaultBreaker()).State == breaker.Open
}

// handlerOf attaches a handler with these targets to a pool, and returns it.
func handlerOf(t testing.TB, p *Pool, targets ...*target.Target) *Handler {
	t.Helper()
	h := &Handler{Pool: p, Targets: targets, Breaker: defaultBreaker(), Longest: 2 * time.Second, Logger: zap.NewNop()}
	if err := p.Attach(h, h); err != nil {
		t.Fatal(err)
	}
	p.Mu.Lock()
	h.Rebuild(time.Now())
	p.Mu.Unlock()
	return h
}
