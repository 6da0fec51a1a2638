package failover

import (
	"math/rand/v2"
	"sort"
	"time"

	"github.com/apifailover/caddy-failover/internal/breaker"
)

// A table says which part of the calls each endpoint gets now. It is built by
// the control loop and read by Select; it never changes.
type table struct {
	targets    []*target // by priority
	cumulative []float64 // the targets' parts of all calls, summed up
	total      float64   // 0: every endpoint is out

	available []float64 // of each target, 0 to 1
	tiers     []tier
	trials    []*target // recovering, and in want of a call
	standby   []*target // available, in tiers below the one that serves
	overflow  float64   // 0: strict
}

// A tier is the targets from..to-1 of a table, which have one priority.
type tier struct{ from, to int }

// newTable lays out targets, which are sorted by priority.
func newTable(targets []*target, available []float64, overflow float64) *table {
	t := &table{
		targets:    targets,
		available:  available,
		cumulative: make([]float64, len(targets)),
		overflow:   overflow,
	}
	for i, target := range targets {
		if i == 0 || target.priority != targets[i-1].priority {
			t.tiers = append(t.tiers, tier{i, i})
		}
		t.tiers[len(t.tiers)-1].to = i + 1
	}
	t.spread()
	return t
}

// capacity is the part of a load that a tier can take, and the sum of
// available·weight by which it is split within the tier. Targets that skip
// names are left out.
func (t *table) capacity(tier tier, skip *call) (capacity, sum float64) {
	best, weights := 0.0, 0.0
	for i := tier.from; i < tier.to; i++ {
		target := t.targets[i]
		weights += target.weight
		if t.available[i] <= 0 || target.weight <= 0 || skip != nil && skip.isExcluded(target) {
			continue
		}
		best = max(best, t.available[i])
		sum += t.available[i] * target.weight
	}
	switch {
	case sum == 0:
		return 0, 0
	case t.overflow > 0:
		return min(1, t.overflow*sum/weights), sum
	}
	return best, sum
}

// spread computes the parts: tier 1 takes its capacity of the load, tier 2 its
// capacity of what is left, and so on. What remains after the last tier goes to
// all tiers in proportion to capacity, so that the parts add up to 1 unless
// every endpoint is out.
func (t *table) spread() {
	capacities, sums := make([]float64, len(t.tiers)), make([]float64, len(t.tiers))
	all, rest := 0.0, 1.0
	for i, tier := range t.tiers {
		capacities[i], sums[i] = t.capacity(tier, nil)
		all += capacities[i]
		rest -= rest * capacities[i]
	}
	at, left := 0.0, 1.0
	for i, tier := range t.tiers {
		load := left * capacities[i]
		left -= load
		if all > 0 {
			load += rest * capacities[i] / all
		}
		for j := tier.from; j < tier.to; j++ {
			if sums[i] > 0 {
				at += load * t.available[j] * t.targets[j].weight / sums[i]
			}
			t.cumulative[j] = at
		}
	}
	t.total = at
}

// spot is where a pool's n-th call falls in [0, 1). Multiples of the golden ratio
// spread more evenly than random numbers, so that each endpoint gets its part of
// every few calls and not of many only.
func spot(n uint64) float64 {
	const ratio = 0x9E3779B97F4A7C15 // (√5 - 1) / 2 of 2⁶⁴
	return float64(n*ratio>>11) / (1 << 53)
}

// draw picks the target at u of [0, 1) by the parts of the table; -1 if every
// endpoint is out.
func (t *table) draw(u float64) int {
	if t.total <= 0 {
		return -1
	}
	return t.search(u * t.total)
}

// search finds the first target whose cumulative part is above u.
func (t *table) search(u float64) int {
	i := sort.Search(len(t.cumulative), func(i int) bool { return t.cumulative[i] > u })
	if i == len(t.cumulative) {
		// u was rounded up to the total: take the last target that has a part
		for i--; i > 0 && t.cumulative[i] == t.cumulative[i-1]; i-- {
		}
	}
	return i
}

// tierOf is the tier of target i.
func (t *table) tierOf(i int) tier {
	n := sort.Search(len(t.tiers), func(n int) bool { return t.tiers[n].to > i })
	return t.tiers[n]
}

// drawTwo picks two targets of one tier by their parts and returns the one that
// promises the shorter wait (power of two choices): the one at u, and another.
func (t *table) drawTwo(u float64) int {
	first := t.draw(u)
	if first < 0 {
		return first
	}
	tier := t.tierOf(first)
	low := 0.0
	if tier.from > 0 {
		low = t.cumulative[tier.from-1]
	}
	second := t.search(low + rand.Float64()*(t.cumulative[tier.to-1]-low))
	if second < tier.from || second >= tier.to || t.targets[second].state.load() >= t.targets[first].state.load() {
		return first
	}
	return second
}

// redraw picks among the targets that a call has not excluded, by the parts
// they have without the others; nil if there is none. u is drawn from [0, 1). It
// allocates nothing.
func (t *table) redraw(c *call, u float64) *target {
	left, all := 1.0, 0.0
	for _, tier := range t.tiers {
		capacity, sum := t.capacity(tier, c)
		if load := left * capacity; u < load {
			return t.within(tier, c, u/load*sum)
		} else {
			u -= load
			left -= load
		}
		all += capacity
	}
	if all == 0 {
		return nil
	}
	u *= all / left
	var last tier
	var lastSum float64
	for _, tier := range t.tiers {
		capacity, sum := t.capacity(tier, c)
		if capacity == 0 {
			continue
		}
		if u < capacity {
			return t.within(tier, c, u/capacity*sum)
		}
		u -= capacity
		last, lastSum = tier, sum
	}
	return t.within(last, c, lastSum) // u was rounded up
}

// within finds the target of a tier at u of its sum.
func (t *table) within(tier tier, c *call, u float64) (found *target) {
	for i := tier.from; i < tier.to; i++ {
		target := t.targets[i]
		if t.available[i] <= 0 || target.weight <= 0 || c.isExcluded(target) {
			continue
		}
		found = target
		if u -= t.available[i] * target.weight; u < 0 {
			break
		}
	}
	return found
}

// share is the part of all calls that goes to target i, 0 to 1.
func (t *table) share(i int) float64 {
	if i == 0 {
		return t.cumulative[0]
	}
	return t.cumulative[i] - t.cumulative[i-1]
}

// belowServing are the available targets below the first tier that has any.
func (t *table) belowServing() (below []*target) {
	serving := -1
	for n, tier := range t.tiers {
		for i := tier.from; i < tier.to; i++ {
			if t.available[i] <= 0 || t.targets[i].weight <= 0 {
				continue
			}
			if serving < 0 {
				serving = n
			}
			if n > serving {
				below = append(below, t.targets[i])
			}
		}
	}
	return below
}

// build makes the table of targets from the states of their endpoints.
func (p *Policy) build(targets []*target, now time.Time) *table {
	cfg := p.breakerConfig()
	targets = inForce(targets)
	available := make([]float64, len(targets))
	trials, out := p.assess(targets, available, now, cfg, false)
	if out { // then a hold that may be a request's own keeps nothing away
		trials, _ = p.assess(targets, available, now, cfg, true)
	}
	built := newTable(targets, available, p.Overflow)
	built.trials = trials
	if p.StandbyShare > 0 {
		built.standby = built.belowServing()
	}
	return built
}

// assess fills in how available each target is, and returns those in want of a call
// and whether none is available. Holds that are in doubt count unless pastDoubt is set.
func (p *Policy) assess(targets []*target, available []float64, now time.Time, cfg *breaker.Config, pastDoubt bool) (trials []*target, out bool) {
	out = true
	for i, t := range targets {
		s := t.state
		s.mu.Lock()
		if t.weight > 0 && !s.barred && (!now.Before(s.holdUntil) || pastDoubt && s.holdSoft) {
			available[i] = s.breaker.Allowed(cfg) * (1 - s.scorer.Lost)
			out = out && available[i] == 0
			if wants, _ := s.breaker.WantsTrial(now, cfg); wants || s.breaker.OnTrial(cfg) {
				trials = append(trials, t)
			}
		}
		s.mu.Unlock()
	}
	return trials, out
}
