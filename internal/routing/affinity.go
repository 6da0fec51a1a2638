package routing

import (
	"math"

	"github.com/cespare/xxhash/v2"
)

// Hash makes a key or a seed of a text. It is the same in every process.
func Hash(text string) uint64 { return xxhash.Sum64String(text) }

// Affine picks the member that serves a key, among those that are not excluded; -1 if there
// is none. excluded may be nil. It allocates nothing.
//
// The key falls into a tier by the tiers' capacities, always at the same place. Within the
// tier the members bid for it, and the highest bid of -w/ln(h) wins, where w is
// available·weight and h in (0, 1) a hash of key and member. So each member gets keys in
// proportion to w; one that goes leaves its own keys to the others and moves no others;
// and one that comes back by and by gets its own keys back. See Schindelhauer and
// Schomaker, Weighted Distributed Hash Tables, 2005.
func (t *Table) Affine(key uint64, excluded func(i int) bool) int {
	tier, _, sum := t.tierAt(unit(mix(key)), excluded)
	if sum == 0 {
		return -1
	}
	best, bid, w, h := -1, 0.0, 0.0, 0.0 // of the best
	for i := tier.From; i < tier.To; i++ {
		m := &t.Members[i]
		if !m.TakesCalls() || excluded != nil && excluded(i) {
			continue
		}
		mw, mh := m.Available*m.Weight, unit(mix(key^t.Seeds[i]))
		if mw <= w && mh <= h {
			continue // it is outbid, and no logarithm need tell
		}
		if own := -mw / math.Log(mh); best < 0 || own > bid {
			best, bid, w, h = i, own, mw, mh
		}
	}
	return best
}

// unit makes a number in (0, 1) of a hash.
func unit(h uint64) float64 { return (float64(h>>11) + 0.5) / (1 << 53) }

// mix spreads a change of any bit over all bits: the finalizer of splitmix64. See Steele,
// Lea and Flood, Fast Splittable Pseudorandom Number Generators, 2014.
func mix(h uint64) uint64 {
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}
