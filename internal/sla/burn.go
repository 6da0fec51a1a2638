package sla

import (
	"strconv"
	"time"
)

const (
	burnPairs = 3

	// minBad is how many events of the long window must be bad before it can
	// burn: one failure of three calls at night is no reason to wake anybody.
	minBad = 10

	// A pair is quiet where one of its rates is below this part of the limit.
	// Burning ends when all have been quiet for so long.
	quietBelow = 0.9
	quietFor   = 5 * time.Minute
)

// Burn is how fast the error budget is spent: at a rate of 1 it lasts for exactly
// the objective's window. It is judged over two windows, of which the long one
// says that it matters and the short one that it still goes on.
type Burn struct {
	Long, Short time.Duration
	Limit       float64 // rate that is too fast

	LongRate, ShortRate float64
	Bad                 uint64 // events in the long window
}

// pairs are those of The Site Reliability Workbook, table 5-8. At these rates 2 %,
// 5 % and 10 % of the budget of 30 days are spent within the long window. An
// objective below 0.93 cannot reach 14.4, one below 0.83 not 6.
var pairs = [burnPairs]Burn{
	{Long: time.Hour, Short: 5 * time.Minute, Limit: 14.4},
	{Long: 6 * time.Hour, Short: 30 * time.Minute, Limit: 6},
	{Long: 72 * time.Hour, Short: 6 * time.Hour, Limit: 1},
}

func (b *Burn) add(short bool, bad, events uint64, objective float64) {
	rate := round((1 - ratio(events-bad, events)) / (1 - objective))
	if short {
		b.ShortRate = rate
		return
	}
	b.LongRate, b.Bad = rate, bad
}

// Burning reports whether both rates have reached the limit, on at least 10 bad
// events.
func (b Burn) Burning() bool {
	return b.Bad >= minBad && min(b.LongRate, b.ShortRate) >= b.Limit
}

func (b Burn) quiet() bool { return min(b.LongRate, b.ShortRate) < quietBelow*b.Limit }

// SLI is a service level indicator.
type SLI uint8

const (
	Availability SLI = iota
	Latency

	slis = int(Latency) + 1
)

// String returns availability or latency.
func (s SLI) String() string {
	switch s {
	case Availability:
		return "availability"
	case Latency:
		return "latency"
	}
	return "SLI(" + strconv.Itoa(int(s)) + ")"
}

// Change is the beginning or the end of burning. Of each SLI they alternate, a
// beginning first.
type Change struct {
	SLI        SLI
	Began      bool
	Burn       Burn // the pair that began it, also in the end, with its rates of now
	BudgetLeft float64
	At         time.Time
}

// Alert says when the error budgets of one series begin and end to burn:
//
//	met     → burning  a pair of windows burns
//	burning → met      every pair has been quiet for 5 minutes, or there is no
//	                   objective any more
//
// A pair between quiet (under 90 % of its limit) and burning changes nothing. The
// zero value is met. It is not safe for concurrent use.
type Alert struct {
	state [slis]struct {
		burning bool
		pair    int       // that began it
		quiet   time.Time // since when; zero: not quiet
	}
}

// Burning reports whether the budget of an SLI is burning.
func (a *Alert) Burning(s SLI) bool { return int(s) < slis && a.state[s].burning }

// Update takes a standing, and appends to dst what begins or ends with it: at
// most one change of each SLI. Call it every few seconds, or up to a minute. A
// clock that jumps back begins the 5 minutes again.
func (a *Alert) Update(dst []Change, now time.Time, s Standing) []Change {
	for i, in := range [slis]*Indicator{&s.Availability, &s.Latency} {
		dst = a.update(dst, SLI(i), now, in)
	}
	return dst
}

func (a *Alert) update(dst []Change, sli SLI, now time.Time, in *Indicator) []Change {
	s := &a.state[sli]
	quiet := true
	for i, b := range in.Burn {
		if !s.burning && b.Burning() {
			s.burning, s.pair, s.quiet = true, i, time.Time{}
			return append(dst, Change{SLI: sli, Began: true, Burn: b, BudgetLeft: in.BudgetLeft, At: now})
		}
		quiet = quiet && b.quiet()
	}
	switch {
	case !s.burning:
		return dst
	case in.Objective == 0:
	case !quiet:
		s.quiet = time.Time{}
		return dst
	case s.quiet.IsZero() || s.quiet.After(now):
		s.quiet = now
		return dst
	case now.Sub(s.quiet) < quietFor:
		return dst
	}
	s.burning, s.quiet = false, time.Time{}
	return append(dst, Change{SLI: sli, Burn: in.Burn[s.pair], BudgetLeft: in.BudgetLeft, At: now})
}
