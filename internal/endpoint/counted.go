package endpoint

import (
	"math/bits"
	"time"

	"github.com/apifailover/caddy-failover/internal/breaker"
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

// Counted is what came of attempts at an endpoint, and of the calls whose last
// attempt was there. The zero value is empty.
type Counted struct {
	some      bool
	Attempts  sla.Batch
	Calls     sla.Batch      // as their clients saw them
	Durations DurationCounts // of attempts
	Unsent    uint64         // attempts that did not leave this process; not in attempts
	Failovers map[Route]uint64
}

// Route is where a failover went, and why.
type Route struct {
	To     string
	Reason string // of the event
}

// Attempt counts an attempt: what it came to, and the time to its first byte or its end, 0 if it never began.
func (c *Counted) Attempt(o outcome.Outcome, duration time.Duration) {
	c.some = true
	if o == outcome.Unsent {
		c.Unsent++
		return
	}
	c.Attempts.Add(sla.Outcome{Kind: kinds[o], Latency: duration})
	if o != outcome.Cancelled && duration > 0 {
		c.Durations.add(duration)
	}
}

// success counts what an attempt and its call came to, as attempt and call do.
func (c *Counted) success(s sample) {
	c.some = true
	c.Durations.add(s.latency)
	if s.waited == s.latency {
		sla.AddSuccess(s.latency, &c.Attempts, &c.Calls)
		return
	}
	sla.AddSuccess(s.latency, &c.Attempts)
	if s.waited > 0 {
		sla.AddSuccess(s.waited, &c.Calls)
	}
}

// Call counts a call as its client saw it; latency is 0 without an answer.
func (c *Counted) Call(o outcome.Outcome, latency time.Duration) {
	c.some = true
	c.Calls.Add(sla.Outcome{Kind: kinds[o], Latency: latency})
}

// reset empties it; its memory is used again.
func (c *Counted) reset() {
	c.some = false
	c.Attempts.Reset()
	c.Calls.Reset()
	c.Durations, c.Unsent = DurationCounts{}, 0
	clear(c.Failovers)
}

// Merge adds what is not the pool's.
func (c *Counted) Merge(o *Counted) {
	c.Attempts.Merge(&o.Attempts)
	c.Durations.merge(&o.Durations)
	c.Unsent += o.Unsent
	for r, n := range o.Failovers {
		if c.Failovers == nil {
			c.Failovers = make(map[Route]uint64)
		}
		c.Failovers[r] += n
	}
}

// DurationCounts counts durations by powers of two, from 1 ms to 131 s. The zero value
// is empty.
type DurationCounts struct {
	Buckets [DurationBuckets]uint64 // bucket i: at most 1 ms · 2^i; the last: all above
	Sum     time.Duration
}

// DurationBuckets is how many buckets durations are counted in.
const DurationBuckets = 19

func (h *DurationCounts) add(d time.Duration) {
	h.Buckets[min(bits.Len64(uint64((d-1)/time.Millisecond)), DurationBuckets-1)]++
	h.Sum += d
}

func (h *DurationCounts) merge(o *DurationCounts) {
	for i, n := range o.Buckets {
		h.Buckets[i] += n
	}
	h.Sum += o.Sum
}

// FreshLocked is where the state's mutex guards what is counted until the control
// loop takes it.
func (s *State) FreshLocked() *Counted {
	if s.fresh == nil {
		s.fresh = new(Counted)
	}
	return s.fresh
}

// recordLocked records what an attempt came to, and its call, where this is what
// the client got.
func (s *State) recordLocked(f Watched, now time.Time, end end, firstByte time.Duration) {
	fresh := s.FreshLocked()
	fresh.Attempt(end.outcome, taken(f, now))
	if end.final || f.own().final {
		if waited, ok := f.RecordsCall(firstByte); ok {
			fresh.Call(end.outcome, waited)
		}
	}
}

// CountCall counts what a call came to whose last attempt was made here, and how long
// its client has waited for a first byte; 0: none came.
func (s *State) CountCall(o outcome.Outcome, waited time.Duration) {
	s.Mu.Lock()
	s.FreshLocked().Call(o, waited)
	s.Mu.Unlock()
}

// Finalize marks an attempt as final, unless the proxy has thrown its answer away, and
// returns what it came to and whether it is final now.
func (s *State) Finalize(t *Ticket) (o outcome.Outcome, final bool) {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	t.final = !t.passedOver
	return t.Outcome, t.final
}

// PassOver notes that the proxy has thrown an attempt's answer away; false if it is
// final already.
func (s *State) PassOver(t *Ticket) bool {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	t.passedOver = !t.final
	return t.passedOver
}

// TakeFresh returns what was counted since the last time; nil: nothing. The caller gives it
// back with Reuse.
func (s *State) TakeFresh(now time.Time) *Counted {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	s.countLocked(now)
	fresh := s.fresh
	if fresh == nil || !fresh.some {
		return nil
	}
	s.fresh, s.spare = s.spare, nil
	return fresh
}

// Reuse takes back what TakeFresh returned, which is emptied.
func (s *State) Reuse(fresh *Counted) {
	fresh.reset()
	s.Mu.Lock()
	s.spare = fresh
	s.Mu.Unlock()
}

// Down tells whether the endpoint takes no calls and, unless it took none before, why.
func (s *State) Down(cfg *breaker.Config, before bool) (down bool, cause string) {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	if down = s.breaker.Allowed(cfg) == 0; !down || before {
		return down, ""
	}
	cause = s.breaker.Opened
	if s.breaker.State == breaker.ForcedOpen {
		cause = s.breaker.Reason
	} else if s.lastFailure != outcome.Pending {
		cause += ", last: " + s.lastFailure.String()
	}
	return true, cause
}

// CountFailover counts a call that moved on from this endpoint.
func (s *State) CountFailover(to string, reason string) {
	s.Mu.Lock()
	fresh := s.FreshLocked()
	fresh.some = true
	if fresh.Failovers == nil {
		fresh.Failovers = make(map[Route]uint64)
	}
	fresh.Failovers[Route{to, reason}]++
	s.Mu.Unlock()
}

// NotePoison is the log's word for a request that fails wherever it goes.
const NotePoison = "poison"
