package sla

import (
	"strconv"
	"time"
)

const (
	burnPairs = 3

	// minBad is the smallest number of bad events in the long window at which a pair can
	// burn. One failure in three calls at night must not wake anybody.
	minBad = 10

	// A pair is quiet while one of its rates is below this part of the limit. Burning ends
	// when all pairs have been quiet for quietFor.
	quietBelow = 0.9
	quietFor   = 5 * time.Minute
)

// Burn is how fast the error budget is spent. At rate 1 the budget lasts exactly as long as
// the objective's window. Two windows are compared with the limit: the long one shows that
// the loss matters, the short one that it still goes on.
type Burn struct {
	Long, Short time.Duration
	Limit       float64 // rate from which the pair can burn

	LongRate, ShortRate float64
	Bad                 uint64 // events in the long window
}

// pairs are the pairs of The Site Reliability Workbook, table 5-8. At these rates, 2 %, 5 %
// and 10 % of a 30-day budget are spent within the long window. The rate cannot reach 14.4
// with an objective below 0.93, nor 6 with one below 0.83.
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

// Burning reports whether both rates have reached the limit with at least 10 bad events in
// the long window.
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

// Change is the start or the end of burning. Starts and ends of one SLI alternate; a start
// comes first.
type Change struct {
	SLI        SLI
	Began      bool
	Burn       Burn // the pair that started it, with its rates at At, also when burning ends
	BudgetLeft float64
	At         time.Time
}

// Alert tracks when the error budgets of one series start and stop burning:
//
//	met     → burning  a pair of windows burns
//	burning → met      every pair has been quiet for 5 minutes, or there is no
//	                   objective any more
//
// A pair between quiet (under 90 % of its limit) and burning changes nothing. The zero
// value is met. An alert is not safe for concurrent use.
type Alert struct {
	state [slis]struct {
		burning bool
		pair    int       // index of the pair that started it
		quiet   time.Time // start of the quiet time; zero if not quiet
	}
}

// Burning reports whether the budget of an SLI is burning.
func (a *Alert) Burning(s SLI) bool { return int(s) < slis && a.state[s].burning }

// Update evaluates a standing and appends each start or end of burning to dst, at most one
// for each SLI. Call it at least once a minute. If the clock jumps back, the 5 minutes
// start again.
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
