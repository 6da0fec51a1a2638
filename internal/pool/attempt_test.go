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

// A trip is an attempt without a request, which the watcher leaves alone.
type trip struct {
	endpoint.Ticket
	began    time.Time
	latency  time.Duration // to the first byte; 0: not yet
	patience time.Duration
}

func (f *trip) HasStarted() bool                                  { return true }
func (f *trip) StartedAt() time.Time                              { return f.began }
func (f *trip) FirstByte() time.Duration                          { return f.latency }
func (f *trip) WaitedFor(now time.Time) time.Duration             { return now.Sub(f.began) }
func (f *trip) Uploads() bool                                     { return false }
func (f *trip) WaitsForClient() bool                              { return false }
func (f *trip) Flow() *endpoint.Flow                              { return nil }
func (f *trip) MeasureFlow()                                      {}
func (f *trip) RecordsCall(d time.Duration) (time.Duration, bool) { return d, true }
func (f *trip) Look(time.Time, bool) endpoint.Ending              { return endpoint.NotEnded }
func (f *trip) Act(endpoint.Ending, time.Time)                    {}
func (f *trip) PatienceLeft() time.Duration                       { return f.patience }

// begin puts an attempt in flight, which has its first byte after a millisecond.
func begin(t testing.TB, s *endpoint.State, now time.Time, patience time.Duration) *trip {
	t.Helper()
	f := &trip{began: now, latency: time.Millisecond, patience: patience}
	if !s.Acquire(f, now, defaultBreaker(), nil, endpoint.AdmitNormally) {
		t.Fatal("not admitted")
	}
	return f
}

// settle lets an attempt come to its end.
func settle(s *endpoint.State, f *trip, now time.Time, o outcome.Outcome) {
	s.Settle(f, now, defaultBreaker(), o, true, endpoint.NoDoubt)
}

// isOpen tells whether an endpoint's breaker is open.
func isOpen(s *endpoint.State, now time.Time) bool {
	return s.Stands(now, defaultBreaker()).State == breaker.Open
}

// handlerOf is a handler of a pool, which runs by it.
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
