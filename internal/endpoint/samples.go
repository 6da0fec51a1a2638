package endpoint

import (
	"math"
	"time"

	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/outcome"
)

// Nearly all attempts are quick successes at an endpoint that works, and change only counts. So each
// leaves a sample, and the control loop counts many samples at once. Other methods do so too, if
// they need the counts.

// A sample is the result of a quick success.
type sample struct {
	latency time.Duration // to the first byte
	waited  time.Duration // how long the client waited for it; 0: the call is not counted with this attempt
}

// samples are the samples that have not been counted. The zero value is empty.
type samples struct {
	n    int
	kept [64]sample
	of   [64]*condition // the condition of each sample's scope; nil: it has no scope
}

// countLocked counts the samples.
func (s *State) countLocked(now time.Time) {
	s.totals.Attempts = s.own.begun
	n := s.samples.n
	if n == 0 {
		return
	}
	s.samples.n = 0
	s.totals.Successes += uint64(n)
	fresh := s.FreshLocked()
	for i := range n {
		s.last.add(outcome.Success)
		fresh.success(s.samples.kept[i])
	}
	for from, to := 0, 0; from < n; from = to { // runs of samples of the same scope
		of := s.samples.of[from]
		for to = from; to < n && s.samples.of[to] == of; to++ {
			s.samples.of[to] = nil
		}
		if of == nil {
			s.own.count(now, s.samples.kept[from:to])
			s.unscoped.served = now
			continue
		}
		of.count(now, s.samples.kept[from:to])
		s.own.served, s.own.passed = now, s.own.passed+to-from
	}
}

// count counts successes that Breaker.Succeeded has taken.
func (c *condition) count(now time.Time, successes []sample) {
	n := len(successes)
	c.served = now
	c.inVain.answer(now)
	c.silence.end(now, n)
	c.tally.Calls += n
	c.tally.Latencies += n
	closed := c.breaker.State == breaker.Closed
	var sum time.Duration
	product := 1.0 // the product of latencies, which needs only one logarithm
	for i := range successes {
		latency := successes[i].latency
		sum += latency
		product *= latency.Seconds()
		if i == n-1 || i%16 == 15 { // before the product overflows or underflows
			c.tally.LogLatency += math.Log(product)
			product = 1
		}
		c.slowness.Learn(latency, false, closed)
		c.slowness.Judged(false)
	}
	c.notePeak(now, sum/time.Duration(n))
}

// Succeeded settles an attempt that succeeded and whose body has ended, if it can be kept as a
// sample, and reports whether it did. If not, the caller must use SettleAnswer. final says that the
// response went to the client.
func (s *State) Succeeded(f Watched, cfg *breaker.Config, final bool) bool {
	t, latency := f.own(), f.FirstByte()
	s.Mu.Lock()
	c := &s.own
	scope := t.about()
	if scope != nil {
		if !s.own.well() || t.rare.whole.Generation != s.own.breaker.Generation {
			s.Mu.Unlock()
			return false
		}
		c = scope
	}
	if t.Outcome != outcome.Pending || t.judged || t.MovedOn || t.Untimed || t.Unhurried && !t.Single || c.passing.trial == t || latency == 0 || c.slowness.IsSlow(latency) || !c.hold.until.IsZero() ||
		!c.breaker.Succeeded(cfg, t.Permit, latency) {
		s.Mu.Unlock()
		return false
	}
	t.Outcome = outcome.Success
	s.unlinkLocked(t)
	if s.samples.n == len(s.samples.kept) {
		s.countLocked(time.Now())
	}
	if latency.Seconds() > math.Float64frombits(c.peak.Load()) {
		c.notePeak(time.Now(), latency) // least_latency needs it at once
	}
	kept := sample{latency: latency}
	if final || t.final {
		kept.waited, _ = f.RecordsCall(latency)
	}
	s.samples.kept[s.samples.n] = kept
	if scope != nil {
		s.samples.of[s.samples.n] = scope
		s.own.breaker.Succeeded(cfg, t.rare.whole, 0)
		s.scopes.succeeded(s.own.begun)
	}
	s.samples.n++
	if c.passing.calls != 0 {
		c.answered(t)
	}
	if len(c.doubts) > 0 || c.only429.n > 0 || c.breaker.HasFreshFailures() || s.own.breaker.HasFreshFailures() {
		s.worksSince(c, f.StartedAt())
	}
	if c.hold.step > 0 { // a read is cheaper than a write to a shared cache line
		c.hold.step = 0
	}
	s.Mu.Unlock()
	return true
}
