package routing

import (
	"math"

	"github.com/cespare/xxhash/v2"
)

// Hash returns the hash of a text for keys and seeds. It is the same in every process.
func Hash(text string) uint64 { return xxhash.Sum64String(text) }

// Affine returns the member that serves a key, among those that are not excluded. It returns -1 if
// there is none. excluded may be nil. It does not allocate.
//
// The key has a fixed position in [0, 1), which selects a tier by the tiers' capacities.
// Within the tier, each member bids -w/ln(h), and the highest bid wins. w is
// available·weight, and h in (0, 1) is a hash of key and member. So each member gets keys
// in proportion to w. A member that leaves moves only its own keys, and a member that
// returns gradually gets its own keys back. See Schindelhauer and Schomaker, Weighted
// Distributed Hash Tables, 2005.
func (t *Table) Affine(key uint64, excluded func(i int) bool) int {
	tier, _, sum := t.tierAt(unit(mix(key)), excluded)
	if sum == 0 {
		return -1
	}
	best, bid, w, h := -1, 0.0, 0.0, 0.0 // of the best bid so far
	for i := tier.From; i < tier.To; i++ {
		m := &t.Members[i]
		if !m.TakesCalls() || excluded != nil && excluded(i) {
			continue
		}
		mw, mh := m.Available*m.Weight, unit(mix(key^t.Seeds[i]))
		if mw <= w && mh <= h {
			continue // outbid; no logarithm needed
		}
		if own := -mw / math.Log(mh); best < 0 || own > bid {
			best, bid, w, h = i, own, mw, mh
		}
	}
	return best
}

// unit maps a hash to (0, 1).
func unit(h uint64) float64 { return (float64(h>>11) + 0.5) / (1 << 53) }

// mix spreads a change of any bit over all bits, with the finalizer of splitmix64. See
// Steele, Lea and Flood, Fast Splittable Pseudorandom Number Generators, 2014.
func mix(h uint64) uint64 {
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}
