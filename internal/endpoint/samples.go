package endpoint

import (
	"math"
	"time"

	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/outcome"
)

// Nearly all attempts are quick successes at an endpoint that works. They change nothing
// but counts, so a request leaves a sample, and many samples are counted at a time: by the
// control loop, or by any method that needs the counts.

// A sample is the result of a quick success.
type sample struct {
	latency time.Duration // to the first byte
	waited  time.Duration // how long the client waited for it; 0: the call is not counted with this attempt
}

// samples are the samples that have not been counted. The zero value is empty.
type samples struct {
	n    int
	kept [64]sample
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
	var sum time.Duration
	logs, product := 0.0, 1.0 // of latencies: one logarithm for many
	for i, sample := range s.samples.kept[:n] {
		sum += sample.latency
		product *= sample.latency.Seconds()
		if i == n-1 || i%16 == 15 { // before the product leaves the range
			logs += math.Log(product)
			product = 1
		}
		s.last.add(outcome.Success)
		fresh.success(sample)
	}
	s.own.count(now, s.samples.kept[:n], sum, logs)
}

// Succeeded takes a success whose body has ended, if it can be kept as a sample, and reports
// whether it was; if not, the caller must use SettleAnswer. final says that the response went
// to the client.
func (s *State) Succeeded(f Watched, cfg *breaker.Config, final bool) bool {
	t, latency := f.own(), f.FirstByte()
	s.Mu.Lock()
	if t.Outcome != outcome.Pending || t.judged || t.MovedOn || t.Unhurried && !t.Single || s.own.passing.trial == t || latency == 0 || s.own.slowness.IsSlow(latency) || !s.own.hold.until.IsZero() ||
		!s.own.breaker.Succeeded(cfg, t.Permit, latency) {
		s.Mu.Unlock()
		return false
	}
	t.Outcome = outcome.Success
	s.unlinkLocked(t)
	if s.samples.n == len(s.samples.kept) {
		s.countLocked(time.Now())
	}
	if latency.Seconds() > math.Float64frombits(s.own.peak.Load()) {
		s.own.notePeak(time.Now(), latency) // least_latency needs it at once
	}
	kept := sample{latency: latency}
	if final || t.final {
		kept.waited, _ = f.RecordsCall(latency)
	}
	s.samples.kept[s.samples.n] = kept
	s.samples.n++
	if s.own.passing.calls != 0 {
		s.own.answered(t)
	}
	if s.own.hold.step > 0 { // a read is cheaper than a write to a shared cache line
		s.own.hold.step = 0
	}
	s.Mu.Unlock()
	return true
}
