// Package routing spreads requests over tiers of weighted members.
package routing

import (
	"math/rand/v2"
	"sort"
)

// A Table holds the part of the calls that each member gets. Members are identified by
// their index. A table is immutable once it is in use.
type Table struct {
	Members    []Member  // sorted by priority
	cumulative []float64 // running sums of the members' parts of all calls
	Total      float64   // sum of all parts; 0 if every member is out

	// Seeds identify the members for Affine: the Hash of each name. Callers of Affine set
	// them before the table is in use.
	Seeds []uint64

	Tiers    []tier
	overflow float64 // 0 means strict
}

// A Member can receive calls.
type Member struct {
	Priority  int     // 1 is preferred; members of equal priority form a tier
	Weight    float64 // share of the tier; 0 takes no calls
	Available float64 // part of its share that it can take, 0 to 1; 0 is out
}

// TakesCalls reports whether the member gets any calls.
func (m *Member) TakesCalls() bool { return m.Available > 0 && m.Weight > 0 }

// A tier is the members [From, To) of a table. They have the same priority.
type tier struct{ From, To int }

// New returns the table of members, which must be sorted by priority. With overflow 0, a
// tier takes the part of the load that its most available member could take. Otherwise it
// takes min(1, overflow × the available part of its weight).
func New(members []Member, overflow float64) *Table {
	t := &Table{
		Members:    members,
		cumulative: make([]float64, len(members)),
		overflow:   overflow,
	}
	for i := range members {
		if i == 0 || members[i].Priority != members[i-1].Priority {
			t.Tiers = append(t.Tiers, tier{i, i})
		}
		t.Tiers[len(t.Tiers)-1].To = i + 1
	}
	t.spread()
	return t
}

// capacity returns the part of a load that a tier can take, and the sum of available·weight
// over its members. It leaves excluded members out; a nil function excludes none.
func (t *Table) capacity(tier tier, excluded func(i int) bool) (capacity, sum float64) {
	best, weights := 0.0, 0.0
	for i := tier.From; i < tier.To; i++ {
		m := &t.Members[i]
		weights += m.Weight
		if !m.TakesCalls() || excluded != nil && excluded(i) {
			continue
		}
		best = max(best, m.Available)
		sum += m.Available * m.Weight
	}
	switch {
	case sum == 0:
		return 0, 0
	case t.overflow > 0:
		return min(1, t.overflow*sum/weights), sum
	}
	return best, sum
}

// spread computes the parts. Tier 1 takes its capacity of the load, tier 2 its capacity of
// the rest, and so on. The remainder after the last tier goes to all tiers in proportion to
// their capacity. So the parts add up to 1 unless every member is out.
func (t *Table) spread() {
	capacities, sums := make([]float64, len(t.Tiers)), make([]float64, len(t.Tiers))
	all, rest := 0.0, 1.0
	for i, tier := range t.Tiers {
		capacities[i], sums[i] = t.capacity(tier, nil)
		all += capacities[i]
		rest -= rest * capacities[i]
	}
	at, left := 0.0, 1.0
	for i, tier := range t.Tiers {
		load := left * capacities[i]
		left -= load
		if all > 0 {
			load += rest * capacities[i] / all
		}
		for j := tier.From; j < tier.To; j++ {
			if sums[i] > 0 {
				at += load * t.Members[j].Available * t.Members[j].Weight / sums[i]
			}
			t.cumulative[j] = at
		}
	}
	t.Total = at
}

// Spot returns the position of a pool's n-th call in [0, 1). Multiples of the golden ratio
// are spread more evenly than random numbers, so each member gets its part of any few
// calls, not only of many.
func Spot(n uint64) float64 {
	const ratio = 0x9E3779B97F4A7C15 // (√5 - 1) / 2 of 2⁶⁴
	return float64(n*ratio>>11) / (1 << 53)
}

// Draw returns the member at u in [0, 1) by the parts of the table, or -1 if every member is
// out.
func (t *Table) Draw(u float64) int {
	if t.Total <= 0 {
		return -1
	}
	return t.search(u * t.Total)
}

// search returns the first member whose running sum is above u.
func (t *Table) search(u float64) int {
	i := sort.Search(len(t.cumulative), func(i int) bool { return t.cumulative[i] > u })
	if i == len(t.cumulative) {
		// Rounding made u equal to the total: take the last member that has a part.
		for i--; i > 0 && t.cumulative[i] == t.cumulative[i-1]; i-- {
		}
	}
	return i
}

// tierOf returns the tier of member i.
func (t *Table) tierOf(i int) tier {
	n := sort.Search(len(t.Tiers), func(n int) bool { return t.Tiers[n].To > i })
	return t.Tiers[n]
}

// DrawTwo draws two members of one tier by their parts, the first at u, and returns the one
// with the lower load (power of two choices). If the loads are equal it returns the first.
// It returns -1 if every member is out. It does not allocate.
func (t *Table) DrawTwo(u float64, load func(i int) float64) int {
	first := t.Draw(u)
	if first < 0 {
		return first
	}
	tier := t.tierOf(first)
	low := 0.0
	if tier.From > 0 {
		low = t.cumulative[tier.From-1]
	}
	second := t.search(low + rand.Float64()*(t.cumulative[tier.To-1]-low))
	if second < tier.From || second >= tier.To || load(second) >= load(first) {
		return first
	}
	return second
}

// Redraw returns the member at u in [0, 1) among those that are not excluded, by the parts that
// they would have without the others. It returns -1 if there is none. It does not allocate.
func (t *Table) Redraw(u float64, excluded func(i int) bool) int {
	tier, part, sum := t.tierAt(u, excluded)
	if sum == 0 {
		return -1
	}
	return t.within(tier, part*sum, excluded)
}

// tierAt returns the tier at u in [0, 1) by the capacities of the members that are not
// excluded. part is the position of u in the tier's load, 0 to 1, and sum is the tier's sum of
// available·weight. sum is 0 if every member is out.
func (t *Table) tierAt(u float64, excluded func(i int) bool) (found tier, part, sum float64) {
	left, all := 1.0, 0.0
	for _, tier := range t.Tiers {
		capacity, sum := t.capacity(tier, excluded)
		load := left * capacity
		if u < load {
			return tier, u / load, sum
		}
		u -= load
		left -= load
		all += capacity
	}
	if all == 0 {
		return tier{}, 0, 0
	}
	u *= all / left
	for _, tier := range t.Tiers {
		capacity, own := t.capacity(tier, excluded)
		if capacity == 0 {
			continue
		}
		if u < capacity {
			return tier, u / capacity, own
		}
		u -= capacity
		found, part, sum = tier, 1, own // use the last tier if rounding made u too large
	}
	return found, part, sum
}

// within returns the member of a tier at u in [0, sum), or -1 if all are out or excluded.
func (t *Table) within(tier tier, u float64, excluded func(i int) bool) int {
	found := -1
	for i := tier.From; i < tier.To; i++ {
		m := &t.Members[i]
		if !m.TakesCalls() || excluded != nil && excluded(i) {
			continue
		}
		found = i
		if u -= m.Available * m.Weight; u < 0 {
			break
		}
	}
	return found
}

// Share returns the part of all calls that member i gets, 0 to 1.
func (t *Table) Share(i int) float64 {
	if i == 0 {
		return t.cumulative[0]
	}
	return t.cumulative[i] - t.cumulative[i-1]
}

// BelowServing returns the members that take calls and are below the serving tier, which is the
// first that has such members.
func (t *Table) BelowServing() (below []int) {
	serving := -1
	for n, tier := range t.Tiers {
		for i := tier.From; i < tier.To; i++ {
			if !t.Members[i].TakesCalls() {
				continue
			}
			if serving < 0 {
				serving = n
			}
			if n > serving {
				below = append(below, i)
			}
		}
	}
	return below
}
