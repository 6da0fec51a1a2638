package endpoint

import (
	"math/bits"
	"time"

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
	Some      bool
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
	c.Some = true
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
	c.Some = true
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
	c.Some = true
	c.Calls.Add(sla.Outcome{Kind: kinds[o], Latency: latency})
}

// Reset empties it; its memory is used again.
func (c *Counted) Reset() {
	c.Some = false
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
	if s.Fresh == nil {
		s.Fresh = new(Counted)
	}
	return s.Fresh
}

// SettledLocked records what an attempt came to, and its call, where this is what
// the client got.
func (s *State) SettledLocked(f Watched, now time.Time, o outcome.Outcome, firstByte time.Duration) {
	duration := firstByte
	if duration == 0 {
		duration = taken(f, now)
	}
	fresh := s.FreshLocked()
	fresh.Attempt(o, duration)
	if f.own().Final {
		if waited, ok := f.RecordsCall(firstByte); ok {
			fresh.Call(o, waited)
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
	t.Final = !t.passedOver
	return t.Outcome, t.Final
}

// PassOver notes that the proxy has thrown an attempt's answer away; false if it is
// final already.
func (s *State) PassOver(t *Ticket) bool {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	t.passedOver = !t.Final
	return t.passedOver
}

// CountFailover counts a call that moved on from this endpoint.
func (s *State) CountFailover(to string, reason string) {
	s.Mu.Lock()
	fresh := s.FreshLocked()
	fresh.Some = true
	if fresh.Failovers == nil {
		fresh.Failovers = make(map[Route]uint64)
	}
	fresh.Failovers[Route{to, reason}]++
	s.Mu.Unlock()
}

// NotePoison is the log's word for a request that fails wherever it goes.
const NotePoison = "poison"
