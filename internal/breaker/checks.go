package breaker

import "time"

// How health checks affect a breaker.

// checkState is the result of the latest health check.
type checkState uint8

const (
	unchecked checkState = iota
	checkHasPassed
	CheckHasFailed
)

// Unchecked forgets the latest check, because the endpoint has no checks any longer.
func (b *Breaker) Unchecked() { b.Latest, b.late = unchecked, false }

// CheckedLate takes a check that passed, but so late that the slowness that opened the breaker seems
// to go on.
func (b *Breaker) CheckedLate() { b.Latest, b.noticed, b.late = checkHasPassed, true, true }

// Checked takes the result of a check. steady says that enough checks in a row had this result.
// alone says that no other endpoint is available. Checks never take out the last available endpoint.
func (b *Breaker) Checked(now time.Time, cfg *Config, passed, steady, alone bool) (changed bool) {
	if !passed && b.Latest != CheckHasFailed {
		b.checksFailSince = now
	}
	b.Latest, b.late = CheckHasFailed, false
	if passed {
		b.Latest = checkHasPassed
		b.Uphold()
	}
	switch {
	case cfg.Off:
		return false
	case b.State == Closed && passed:
		b.Worked = true
	case b.State == Closed && (steady || b.wary) && !alone:
		b.open(now, cfg, ReasonCheckFailed)
		b.noticed = true
		return true
	case b.State == Open && !passed:
		b.noticed = true
	case b.State == Open && (steady && b.noticed || !now.Before(b.Until)):
		b.recover(now, cfg, reasonChecksPass)
		return true
	case b.State == Recovering && passed && (b.Opened == ReasonScopes || b.Share == 0 && b.upheld && !b.noticed):
		return false // calls failed while checks passed
	case b.State == Recovering && passed:
		return b.stepSucceeded(now, cfg)
	case b.State == Recovering && !alone:
		changed = b.stepFailedAt(now, cfg, b.Opened)
		b.noticed = true
		return changed
	}
	return false
}
