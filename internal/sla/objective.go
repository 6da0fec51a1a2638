package sla

import (
	"fmt"
	"math"
	"time"
)

// Defaults of an [Objective].
const (
	DefaultWindow   = 30 * 24 * time.Hour
	DefaultQuantile = 0.95
)

// maxWindow is the time that a series covers.
const maxWindow = 40 * 24 * time.Hour

// Objective is the target of a pool or an endpoint. The zero value sets no target.
type Objective struct {
	// Availability is the part of the calls that must succeed, such as 0.999. 0 sets no
	// target.
	Availability float64

	// LatencyQuantile is the part of the successes whose first byte must arrive within
	// LatencyTarget; 0 means 0.95. A LatencyTarget of 0 sets no target.
	LatencyQuantile float64
	LatencyTarget   time.Duration

	// Window is the period up to now that is compared with the objective; 0 means 30 days.
	Window time.Duration
}

// Validate returns an error if a value is out of range.
func (o Objective) Validate() error {
	o = o.withDefaults()
	switch {
	case !(o.Availability >= 0 && o.Availability < 1):
		return fmt.Errorf("availability %v: must be at least 0 and under 1, as in 99.9%%", o.Availability)
	case !(o.LatencyQuantile > 0 && o.LatencyQuantile < 1):
		return fmt.Errorf("latency quantile %v: must be between 0 and 1", o.LatencyQuantile)
	case o.LatencyTarget < 0:
		return fmt.Errorf("latency target %v: must not be negative", o.LatencyTarget)
	case o.Window < time.Hour || o.Window > maxWindow:
		return fmt.Errorf("window %v: must be from 1h to %dd", o.Window, maxWindow/(24*time.Hour))
	}
	return nil
}

func (o Objective) withDefaults() Objective {
	if o.LatencyQuantile == 0 {
		o.LatencyQuantile = DefaultQuantile
	}
	if o.Window == 0 {
		o.Window = DefaultWindow
	}
	return o
}

// latencyRatio returns the part of the successes that must be within the target, or 0
// without a target.
func (o Objective) latencyRatio() float64 {
	if o.LatencyTarget <= 0 {
		return 0
	}
	return o.LatencyQuantile
}

// Attainment compares a ratio of good events with its objective.
type Attainment struct {
	Objective float64 `json:"objective"` // 0 without an objective
	Achieved  float64 `json:"achieved"`  // good events / all events; 1 without events
	Met       bool    `json:"met"`       // true without an objective
	Events    uint64  `json:"events"`
	Bad       uint64  `json:"bad"`

	// BudgetTotal is the error budget: the part of the events that may be bad. BudgetLeft
	// is the part of the budget that is left: 1 is the whole budget, 0 is none, and below 0
	// it is overspent. Both are 0 without an objective.
	BudgetTotal float64 `json:"budget_total"`
	BudgetLeft  float64 `json:"budget_left"`
}

func attain(objective float64, bad, events uint64) Attainment {
	a := Attainment{
		Objective: objective,
		Achieved:  ratio(events-bad, events),
		Met:       true,
		Events:    events,
		Bad:       bad,
	}
	if objective > 0 {
		a.BudgetTotal = round(1 - objective)
		a.BudgetLeft = round(1 - (1-a.Achieved)/a.BudgetTotal)
		a.Met = a.Achieved >= objective
	}
	return a
}

// round removes floating-point noise: it keeps nine decimals.
func round(x float64) float64 { return math.Round(x*1e9) / 1e9 }

// Standing compares a series with an objective at one moment.
type Standing struct {
	At     time.Time
	Window time.Duration
	Counts // over the window

	// Quantile is the latency at the objective's quantile, or 0 if unknown. It can differ
	// by 2 % from what Latency counts.
	Quantile time.Duration

	Availability Indicator // events are calls; bad events are failures
	Latency      Indicator // events are successes with a known latency; bad events are slower than the target
}

// Indicator is the attainment and the burn rates of one SLI.
type Indicator struct {
	Attainment // over the window
	Burn       [burnPairs]Burn
}

// Standing compares the series with the objective over the window that ends at now. It
// computes on a copy and holds the lock of the series only while it copies.
func (o Objective) Standing(s *Series, now time.Time) Standing {
	r := s.record(now)
	return o.standing(&r, now)
}

func (o Objective) standing(r *record, now time.Time) Standing {
	o = o.withDefaults()
	var t tally
	from, to := now.Add(-o.Window), now.Add(time.Millisecond)
	r.sum(&t, levelFor(now, from), from, to, true)
	s := Standing{At: now, Window: o.Window, Counts: t.Counts}
	s.Availability.Attainment = attain(o.Availability, t.Failures.Total(), t.Calls)
	s.Latency.Attainment = o.attainLatency(&t)
	s.Quantile = t.latency.quantiles(o.LatencyQuantile)[0]
	for i, p := range pairs {
		ab, lb := p, p
		for _, short := range []bool{false, true} {
			window := p.Long
			if short {
				window = p.Short
			}
			from := now.Add(-window)
			if o.Availability > 0 {
				t.reset()
				r.sum(&t, levelFor(now, from), from, to, false)
				ab.add(short, t.Failures.Total(), t.Calls, o.Availability)
			}
			if ratio := o.latencyRatio(); ratio > 0 {
				t.reset()
				l := levelFor(now, from)
				if window > 6*time.Hour {
					l = hours // costs a tenth; a window of days may miss up to an hour
				}
				r.sum(&t, l, from, to, true)
				lb.add(short, t.latency.slower(o.LatencyTarget), t.latency.count(), ratio)
			}
		}
		s.Availability.Burn[i], s.Latency.Burn[i] = ab, lb
	}
	return s
}

func (o Objective) attainLatency(t *tally) Attainment {
	var slow uint64
	if o.LatencyTarget > 0 {
		slow = t.latency.slower(o.LatencyTarget)
	}
	return attain(o.latencyRatio(), slow, t.latency.count())
}
