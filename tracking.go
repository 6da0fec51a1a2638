package failover

import (
	"context"
	"maps"
	"math/bits"
	"net/http"
	"time"

	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/event"
	"github.com/apifailover/caddy-failover/internal/outcome"
	"github.com/apifailover/caddy-failover/internal/sla"
)

// kinds says how outcomes are recorded.
var kinds = [...]sla.Kind{
	outcome.Success:       sla.Success,
	outcome.FailedDial:    sla.Dial,
	outcome.FailedTLS:     sla.TLS,
	outcome.FailedTimeout: sla.Timeout,
	outcome.FailedReset:   sla.Reset,
	outcome.FailedStatus:  sla.Status,
	outcome.RateLimited:   sla.RateLimited,
	outcome.Denied:        sla.Denied,
	outcome.Truncated:     sla.Truncated,
	outcome.Stalled:       sla.Stalled,
	outcome.Cancelled:     sla.Cancelled,
	outcome.Unsent:        sla.Cancelled,
}

// counted is what came of attempts at an endpoint, and of the calls whose last
// attempt was there. The zero value is empty.
type counted struct {
	some      bool
	attempts  sla.Batch
	calls     sla.Batch      // as their clients saw them
	durations durationCounts // of attempts
	unsent    uint64         // attempts that did not leave this process; not in attempts
	failovers map[route]uint64
}

// route is where a failover went, and why.
type route struct {
	to     string
	reason string // of the event
}

func (c *counted) attempt(o outcome.Outcome, duration time.Duration) {
	c.some = true
	if o == outcome.Unsent {
		c.unsent++
		return
	}
	c.attempts.Add(sla.Outcome{Kind: kinds[o], Latency: duration})
	if o != outcome.Cancelled && duration > 0 {
		c.durations.add(duration)
	}
}

// success counts what an attempt and its call came to, as attempt and call do.
func (c *counted) success(s sample) {
	c.some = true
	c.durations.add(s.latency)
	if s.waited == s.latency {
		sla.AddSuccess(s.latency, &c.attempts, &c.calls)
		return
	}
	sla.AddSuccess(s.latency, &c.attempts)
	if s.waited > 0 {
		sla.AddSuccess(s.waited, &c.calls)
	}
}

func (c *counted) call(o outcome.Outcome, latency time.Duration) {
	c.some = true
	c.calls.Add(sla.Outcome{Kind: kinds[o], Latency: latency})
}

func (c *counted) reset() {
	c.some = false
	c.attempts.Reset()
	c.calls.Reset()
	c.durations, c.unsent = durationCounts{}, 0
	clear(c.failovers)
}

// merge adds what is not the pool's.
func (c *counted) merge(o *counted) {
	c.attempts.Merge(&o.attempts)
	c.durations.merge(&o.durations)
	c.unsent += o.unsent
	for r, n := range o.failovers {
		if c.failovers == nil {
			c.failovers = make(map[route]uint64)
		}
		c.failovers[r] += n
	}
}

// durationCounts counts durations by powers of two, from 1 ms to 131 s. The zero value
// is empty.
type durationCounts struct {
	buckets [durationBuckets]uint64 // bucket i: at most 1 ms · 2^i; the last: all above
	sum     time.Duration
}

const durationBuckets = 19

func (h *durationCounts) add(d time.Duration) {
	h.buckets[min(bits.Len64(uint64((d-1)/time.Millisecond)), durationBuckets-1)]++
	h.sum += d
}

func (h *durationCounts) merge(o *durationCounts) {
	for i, n := range o.buckets {
		h.buckets[i] += n
	}
	h.sum += o.sum
}

// freshLocked is where the state's mutex guards what is counted until the control
// loop takes it.
func (s *endpointState) freshLocked() *counted {
	if s.fresh == nil {
		s.fresh = new(counted)
	}
	return s.fresh
}

// settledLocked records what an attempt came to, and its call, where this is what
// the client got.
func (s *endpointState) settledLocked(f flight, now time.Time, o outcome.Outcome, firstByte time.Duration) {
	duration := firstByte
	if duration == 0 {
		duration = taken(f, now)
	}
	fresh := s.freshLocked()
	fresh.attempt(o, duration)
	if o.Failed() {
		s.lastFailure = o
	}
	if f.own().final {
		if waited, ok := f.recordsCall(firstByte); ok {
			fresh.call(o, waited)
		}
	}
}

// countCall counts what a call came to whose last attempt was made here, and how long
// its client has waited for a first byte; 0: none came.
func (s *endpointState) countCall(o outcome.Outcome, waited time.Duration) {
	s.mu.Lock()
	s.freshLocked().call(o, waited)
	s.mu.Unlock()
}

// finalize marks an attempt as final, unless the proxy has thrown its answer away, and
// returns what it came to and whether it is final now.
func (s *endpointState) finalize(t *ticket) (o outcome.Outcome, final bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t.final = !t.passedOver
	return t.outcome, t.final
}

// passOver notes that the proxy has thrown an attempt's answer away; false if it is
// final already.
func (s *endpointState) passOver(t *ticket) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	t.passedOver = !t.final
	return t.passedOver
}

// recordsCall implements flight.
func (a *attempt) recordsCall(firstByte time.Duration) (waited time.Duration, ok bool) {
	if a.call.recorded.Swap(true) {
		return 0, false
	}
	return a.sinceCall(firstByte), true
}

// sinceCall is how long the client has waited for a first byte that came
// firstByte after the attempt began, 0 if none came.
func (a *attempt) sinceCall(firstByte time.Duration) time.Duration {
	if firstByte == 0 {
		return 0
	}
	return max(firstByte, a.began.Sub(a.call.began())+firstByte)
}

// record notes what the client of a call got, once: what its last attempt came to.
// An attempt whose answer goes to the client is marked final instead, and its call
// is recorded when the attempt is settled.
func (c *call) record(a *attempt, o outcome.Outcome) {
	if o != outcome.Cancelled && c.keptAnswer() != nil {
		return // the client gets that answer
	}
	if waited, ok := a.recordsCall(a.firstByte()); ok {
		a.target.state.countCall(o, waited)
	}
}

// recordAtEnd records the call when this attempt, whose answer goes to the client,
// is settled, or now if it has been.
func (c *call) recordAtEnd(a *attempt) {
	if o, final := a.target.state.finalize(&a.ticket); final && o != outcome.Pending {
		c.record(a, o)
	}
}

// recordAfterRequest records the call when its request is over, unless the attempt's
// answer, which the proxy has now, has been thrown away by then: nothing else tells
// that lb_retry_match lets an answer through.
func (c *call) recordAfterRequest(a *attempt) {
	context.AfterFunc(c.request.Context(), func() { c.recordAtEnd(a) })
}

// passOver notes that the proxy has thrown the attempt's answer away; false if the
// request is over, and the call has been recorded with it.
func (a *attempt) passOver() bool { return a.target.state.passOver(&a.ticket) }

// countFailover counts a call that moved on from this endpoint.
func (s *endpointState) countFailover(to string, reason string) {
	s.mu.Lock()
	fresh := s.freshLocked()
	fresh.some = true
	if fresh.failovers == nil {
		fresh.failovers = make(map[route]uint64)
	}
	fresh.failovers[route{to, reason}]++
	s.mu.Unlock()
}

// refused notes a call that found every endpoint out; held tells that all had asked
// to wait.
func (p *pool) refused(held bool) {
	if held {
		p.refusals.held.Add(1)
	} else {
		p.refusals.down.Add(1)
	}
}

// poisoned notes a call whose request fails in the same way wherever it goes.
func (p *pool) poisoned(r *http.Request, o outcome.Outcome) {
	p.poison.Add(1)
	p.outbox.Note(event.Event{
		At: time.Now(), Kind: notePoison, Pool: p.name, Reason: o.String(), Count: 1,
		Details: map[string]any{"method": r.Method, "path": r.URL.Path},
	})
}

// notePoison is the log's word for a request that fails wherever it goes.
const notePoison = "poison"

// fold adds what was counted since the last time to the totals and the history.
func (p *pool) fold(now time.Time) {
	p.mu.Lock()
	p.foldLocked(now)
	p.mu.Unlock()
}

func (p *pool) foldLocked(now time.Time) {
	for _, m := range p.members {
		p.foldMemberLocked(m, now)
	}
	var refused sla.Batch
	refused.AddMany(sla.AllDown, p.refusals.down.Swap(0))
	refused.AddMany(sla.RateLimited, p.refusals.held.Swap(0))
	refused.AddMany(sla.Cancelled, p.refusals.unread.Swap(0))
	p.recordCallsLocked(now, &refused)
	p.forgetRoutesLocked()
}

// foldMemberLocked takes what was counted at an endpoint, and works on it without
// the endpoint's lock.
func (p *pool) foldMemberLocked(s *poolMember, now time.Time) {
	s.mu.Lock()
	s.countLocked(now)
	fresh := s.fresh
	if fresh == nil || !fresh.some {
		s.mu.Unlock()
		return
	}
	s.fresh, s.spare = s.spare, nil
	s.mu.Unlock()
	p.keeping.dirty.Store(true)
	s.total.merge(fresh)
	s.series.RecordBatch(now, &fresh.attempts)
	for r, n := range fresh.failovers {
		p.history.RecordFailovers(now, s.name, r.to, n)
	}
	p.recordCallsLocked(now, &fresh.calls)
	fresh.reset()
	s.mu.Lock()
	s.spare = fresh
	s.mu.Unlock()
}

func (p *pool) recordCallsLocked(now time.Time, calls *sla.Batch) {
	if !calls.Empty() {
		p.keeping.dirty.Store(true)
		p.calls.Merge(calls)
		p.history.Pool().RecordBatch(now, calls)
	}
}

// trackLocked records when an endpoint goes down and comes back.
func (p *pool) trackLocked(s *poolMember, now time.Time, cfg *breaker.Config) {
	s.mu.Lock()
	down, cause := s.breaker.Allowed(cfg) == 0, ""
	if down != s.wasDown && down {
		cause = s.breaker.Opened
		if s.breaker.State == breaker.ForcedOpen {
			cause = s.breaker.Reason
		} else if s.lastFailure != outcome.Pending {
			cause += ", last: " + s.lastFailure.String()
		}
	}
	s.mu.Unlock()
	if down != s.wasDown {
		s.wasDown = down
		p.keeping.dirty.Store(true)
		s.series.SetDown(now, down, cause)
	}
}

// forgetRoutesLocked drops the counts of failovers to endpoints that are gone:
// where upstreams come and go, routes would pile up. Many may have gone since the last time.
func (p *pool) forgetRoutesLocked() {
	if !p.staleRoutes {
		return
	}
	p.staleRoutes = false
	names := make(map[string]bool, len(p.members))
	for key := range p.members {
		names[key.name] = true
	}
	for _, s := range p.members {
		maps.DeleteFunc(s.total.failovers, func(r route, _ uint64) bool { return !names[r.to] })
	}
}
