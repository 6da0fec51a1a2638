package endpoint

import (
	"math/bits"
	"time"

	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/outcome"
	"github.com/apifailover/caddy-failover/internal/sla"
)

// kinds maps outcomes to the kinds of the history.
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

// Counted counts the results of attempts at an endpoint, and of the calls whose last
// attempt was there. The zero value is empty.
type Counted struct {
	some      bool // it is not empty
	Attempts  sla.Batch
	Calls     sla.Batch      // as their clients saw them
	Durations DurationCounts // of attempts
	Unsent    uint64         // attempts that did not leave this process; Attempts excludes them
	Failovers map[Route]uint64
}

// Route is the target of a failover and its reason.
type Route struct {
	To     string
	Reason string // of the event
}

// Attempt counts an attempt. duration is the time to its first byte or to its end; 0: it did
// not start.
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

// success counts a sample as Attempt and Call do.
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

// Call counts a call as its client saw it; latency is 0 if there was no response.
func (c *Counted) Call(o outcome.Outcome, latency time.Duration) {
	c.some = true
	c.Calls.Add(sla.Outcome{Kind: kinds[o], Latency: latency})
}

// reset empties it and keeps its memory.
func (c *Counted) reset() {
	c.some = false
	c.Attempts.Reset()
	c.Calls.Reset()
	c.Durations, c.Unsent = DurationCounts{}, 0
	clear(c.Failovers)
}

// Merge adds all counts but Calls, which the pool keeps.
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
	Buckets [DurationBuckets]uint64 // bucket i: at most 1 ms · 2^i; the last: all longer ones
	Sum     time.Duration
}

// DurationBuckets is the number of buckets of DurationCounts.
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

// FreshLocked returns the counts since the latest TakeFresh, to add to them. The state's mutex guards
// them.
func (s *State) FreshLocked() *Counted {
	s.stirLocked()
	if s.fresh == nil {
		s.fresh = new(Counted)
	}
	return s.fresh
}

// recordLocked counts an attempt, and its call if the client got this response.
func (s *State) recordLocked(f Watched, now time.Time, end end, firstByte time.Duration) {
	fresh := s.FreshLocked()
	fresh.Attempt(end.outcome, taken(f, now))
	if end.final || f.own().final {
		if waited, ok := f.RecordsCall(firstByte); ok {
			fresh.Call(end.outcome, waited)
		}
	}
}

// CountCall counts a call whose last attempt was at this endpoint. waited is how long its client
// waited for the first byte; 0: there was none.
func (s *State) CountCall(o outcome.Outcome, waited time.Duration) {
	s.Mu.Lock()
	s.FreshLocked().Call(o, waited)
	s.Mu.Unlock()
}

// Finalize marks an attempt's response as the client's, unless PassOver came first. It returns
// the attempt's outcome, and whether its response is the client's.
func (s *State) Finalize(t *Ticket) (o outcome.Outcome, final bool) {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	t.final = !t.passedOver
	return t.Outcome, t.final
}

// PassOver notes that the proxy dropped an attempt's response. It returns false, and notes nothing, if
// the response is already final.
func (s *State) PassOver(t *Ticket) bool {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	t.passedOver = !t.final
	return t.passedOver
}

// TakeFresh returns the counts since the latest call; nil if there are none. The caller gives
// them back with Reuse.
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

// Reuse empties counts that TakeFresh returned, and takes them back.
func (s *State) Reuse(fresh *Counted) {
	fresh.reset()
	s.Mu.Lock()
	s.spare = fresh
	s.Mu.Unlock()
}

// Down reports whether the endpoint takes no calls. It returns why only if before is false, which
// says that the endpoint was not down before.
func (s *State) Down(cfg *breaker.Config, before bool) (down bool, cause string) {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	if down = s.own.breaker.Allowed(cfg) == 0; !down || before {
		return down, ""
	}
	cause = s.own.breaker.Opened
	if s.own.breaker.State == breaker.ForcedOpen {
		cause = s.own.breaker.Reason
	} else if s.own.faults.last != outcome.Pending {
		cause += ", last: " + s.own.faults.last.String()
	}
	return true, cause
}

// CountFailover counts a call that moved from this endpoint to another.
func (s *State) CountFailover(to, reason string) {
	s.Mu.Lock()
	fresh := s.FreshLocked()
	fresh.some = true
	if fresh.Failovers == nil {
		fresh.Failovers = make(map[Route]uint64)
	}
	fresh.Failovers[Route{to, reason}]++
	s.Mu.Unlock()
}

// NotePoison is the message in the log for a request that fails at every endpoint.
const NotePoison = "poison"
