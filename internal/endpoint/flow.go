package endpoint

import (
	"bytes"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/event"
	"github.com/apifailover/caddy-failover/internal/slowness"
)

// A long answer is judged by the rate of its body: by the time that the endpoint takes for flowUnit
// bytes, compared with its usual time for answers of the same kind. The call itself can no longer
// move on, but the next calls can avoid the endpoint.
const (
	// flowUnit is the number of bytes whose time the detectors of flows compare. Their shortest slow
	// time is 100 ms, so no rate above 160 KB/s is slow.
	flowUnit = 16 << 10
	// flowAfter is the time from the first byte until an answer is measured. So short answers are
	// never measured.
	flowAfter = 100 * time.Millisecond
	// flowKnown is how long reads must have waited for the endpoint before a flow can count as in time.
	flowKnown = 250 * time.Millisecond
	// flowSlow is how long reads must have waited before a flow can count as slow.
	flowSlow = 2 * time.Second
	// flowPause is the longest wait within a flow. After a longer silence, which is intended or a case
	// for idle_timeout, the measurement begins anew.
	flowPause = 15 * time.Second
)

// A Flow measures the rate of an answer's body. The goroutine that reads the body calls Waits and
// Got. The state's watcher looks several times a second whether a read is under way, so Waits and Got
// need not read the clock.
type Flow struct {
	got    atomic.Int64 // bytes, without those that only keep the connection alive
	waits  atomic.Bool  // a read is under way
	events atomic.Bool  // the body is an event stream

	// Guarded by the state's mutex.
	looked  time.Time     // the latest look
	began   time.Time     // the look that saw the first bytes; zero: none
	from    int64         // bytes at that look
	seen    int64         // bytes at the latest look
	waited  time.Duration // the time that reads waited for the endpoint, since began
	arrived time.Duration // waited, when new bytes were seen last
	still   time.Duration // how long reads have waited for the endpoint since new bytes were seen last
	judged  bool          // it is known whether the flow is slow
}

// Waits notes that a read of the body begins.
func (w *Flow) Waits() { w.waits.Store(true) }

// Got notes that the read has returned p. It is not called for a read that fails and returns nothing.
func (w *Flow) Got(p []byte) {
	w.waits.Store(false)
	if len(p) > 0 && !w.keepsAlive(p) {
		w.got.Add(int64(len(p)))
	}
}

// keepsAlive reports whether p only keeps an event stream alive: it is a comment or a ping. It also
// notes whether the body is an event stream.
func (w *Flow) keepsAlive(p []byte) bool {
	switch {
	case p[0] == ':' || bytes.HasPrefix(p, []byte("event: ping")):
		w.events.Store(true)
		return true
	case !w.events.Load() && (bytes.HasPrefix(p, []byte("data:")) || bytes.HasPrefix(p, []byte("event:")) || bytes.HasPrefix(p, []byte("id:"))):
		w.events.Store(true)
	}
	return false
}

// look updates the measurement. waiting says that the attempt does not wait for its client. It
// reports whether bytes have arrived since the previous look.
func (w *Flow) look(now time.Time, waiting bool) (more bool) {
	if waiting && w.waits.Load() && !w.looked.IsZero() {
		pause := max(0, now.Sub(w.looked))
		w.still += pause
		if !w.began.IsZero() {
			w.waited += pause
		}
	}
	w.looked = now
	n := w.got.Load()
	if n == w.seen {
		return false
	}
	w.seen, w.still = n, 0
	if w.began.IsZero() || w.waited-w.arrived > flowPause {
		w.began, w.from, w.waited, w.arrived = now, n, 0, 0
		return false
	}
	w.arrived = w.waited
	return true
}

// silence returns for how long the read that is under way, or that the client's leaving has ended, and
// those before it have brought nothing; 0: there is none, or w is nil.
func (w *Flow) silence(now time.Time) time.Duration {
	if w == nil || !w.waits.Load() || w.looked.IsZero() {
		return 0
	}
	return w.still + max(0, now.Sub(w.looked))
}

// perUnit returns how long the endpoint takes for flowUnit bytes.
func (w *Flow) perUnit() time.Duration {
	return time.Duration(float64(w.arrived) * flowUnit / float64(w.seen-w.from))
}

// flows are the detectors of slow flows: of other bodies at 0, of event streams at 1. nil: no answer
// has been long enough.
type flows [2]*slowness.Detector

// of returns the detector for a flow.
func (d *flows) of(w *Flow) *slowness.Detector {
	kind := 0
	if w.events.Load() {
		kind = 1
	}
	if d[kind] == nil {
		d[kind] = new(slowness.Detector)
	}
	return d[kind]
}

// refresh updates the limits; open says that the breaker is open.
func (d *flows) refresh(now time.Time, factor float64, open bool) {
	for _, one := range d {
		if one != nil {
			if open {
				one.Opened()
			}
			one.Refresh(now, factor)
		}
	}
}

// suspect returns the detector that makes the endpoint a suspect; nil: none does.
func (d *flows) suspect(now time.Time) *slowness.Detector {
	for _, one := range d {
		if one != nil && one.Suspect() && one.Episode.EndpointIsSlow(now, time.Hour) {
			return one
		}
	}
	return nil
}

// explainFlow adds to the event of an opening the rate below which an answer is slow.
func explainFlow(news []event.Event, limit time.Duration) {
	explain(news, "limit_bytes_per_second", flowUnit/limit.Seconds())
}

// awaitsFlow reports whether a recovering endpoint is judged by the rate of its answers, and not by
// their first bytes.
func (c *condition) awaitsFlow() bool {
	return c.byFlow && c.breaker.State == breaker.Recovering && c.breaker.Opened == breaker.ReasonSlower
}

// watchFlow decides, once, whether the body of an answer is slow. It reports whether the control loop
// should look at the endpoint.
func (c *condition) watchFlow(f Watched, now time.Time, cfg *breaker.Config) (changed bool) {
	t := f.own()
	first := f.FirstByte()
	if first == 0 || t.Unhurried {
		return false
	}
	w := f.Flow()
	if w == nil {
		if now.Sub(f.StartedAt())-first >= flowAfter {
			f.MeasureFlow()
		}
		return false
	}
	if more := w.look(now, !f.WaitsForClient()); w.judged || !more || w.arrived < flowKnown {
		return false
	}
	d := c.flows.of(w)
	per := w.perUnit()
	slow := d.IsSlow(per)
	if slow && w.arrived < flowSlow || !slow && w.arrived < now.Sub(w.began)/2 {
		return false // it is too early to decide, or reads mostly waited for the client
	}
	w.judged = true
	if slow && t.Doubtful {
		return false // the call itself may be slow
	}
	d.Learn(per, slow, c.breaker.State == breaker.Closed)
	if t.Permit.Generation != c.breaker.Generation {
		return false
	}
	if slow {
		if d.Episode.Due(now) {
			d.Episode.Mark(now, d.Limit)
		}
		d.Episode.SlowAfter(f.StartedAt(), now.Sub(f.StartedAt()))
		c.faults.slowest = causeOf(f, fmt.Sprintf("body at %.3g bytes/s", flowUnit/per.Seconds()))
	}
	switch {
	case slow && c.breaker.State == breaker.Recovering && c.breaker.Opened == breaker.ReasonSlower:
		changed = c.reportSlow(t, now, cfg)
	case !slow && c.awaitsFlow():
		changed = c.breaker.Answered(now, cfg, &t.Permit, false)
	}
	return d.Judged(slow) || changed
}
