package routing

import (
	"fmt"
	"math"
	"slices"
	"testing"
)

// affine returns the member of each of n keys.
func affine(t *testing.T, members []Member, overflow float64, n int) []int {
	t.Helper()
	table := seeded(members, overflow)
	places := make([]int, n)
	for i := range places {
		if places[i] = table.Affine(Hash(fmt.Sprint("client ", i)), nil); places[i] < 0 {
			t.Fatalf("key %d goes nowhere", i)
		}
	}
	return places
}

// seeded returns a table of members whose seeds are their indexes.
func seeded(members []Member, overflow float64) *Table {
	table := New(members, overflow)
	for i := range members {
		table.Seeds = append(table.Seeds, Hash(fmt.Sprint("endpoint ", i)))
	}
	return table
}

func count(places []int, member int) (n int) {
	for _, at := range places {
		if at == member {
			n++
		}
	}
	return n
}

// tierOfWeights returns the members of one tier.
func tierOfWeights(weights ...float64) []Member {
	var members []Member
	for _, w := range weights {
		members = append(members, Member{Priority: 1, Weight: w, Available: 1})
	}
	return members
}

func TestAffineByWeight(t *testing.T) {
	const keys = 10000
	for _, weights := range [][]float64{{1, 1}, {1, 1, 1}, {3, 1}, {5, 3, 2}, {1, 1, 1, 1, 1}} {
		members := tierOfWeights(weights...)
		places := affine(t, members, 0, keys)
		sum := 0.0
		for _, w := range weights {
			sum += w
		}
		for i, w := range weights {
			if want, got := keys*w/sum, float64(count(places, i)); math.Abs(got-want) > 0.05*want {
				t.Errorf("weights %v: member %d has %.0f keys, want %.0f", weights, i, got, want)
			}
		}
	}
}

// TestAffineMovesOwnKeysOnly checks that a member that leaves moves only its own keys, and
// that it gets back as many of them as it can take.
func TestAffineMovesOwnKeysOnly(t *testing.T) {
	const keys = 10000
	all := tierOfWeights(1, 2, 1, 3)
	before := affine(t, all, 0, keys)
	for _, available := range []float64{0, 0.1, 0.5} {
		some := slices.Clone(all)
		some[1].Available = available
		after := affine(t, some, 0, keys)
		for i := range keys {
			if before[i] != after[i] && before[i] != 1 {
				t.Fatalf("available %.1f: key %d moved from %d to %d", available, i, before[i], after[i])
			}
		}
		kept := float64(count(after, 1)) / float64(count(before, 1))
		if want := available * 7 / (5 + 2*available); math.Abs(kept-want) > 0.03 {
			t.Errorf("available %.1f: it kept %.3f of its keys, want %.3f", available, kept, want)
		}
	}
	fewer := affine(t, all[:3], 0, keys) // the last member is removed
	for i := range keys {
		if before[i] != fewer[i] && before[i] != 3 {
			t.Fatalf("key %d moved from %d to %d", i, before[i], fewer[i])
		}
	}
}

// TestAffineOverTiers checks that a recovering primary has a part of the keys that only
// grows.
func TestAffineOverTiers(t *testing.T) {
	const keys = 10000
	members := tierOfWeights(1, 1, 1)
	members[1].Priority, members[2].Priority = 2, 2
	var had []int
	for _, available := range []float64{0, 0.05, 0.1, 0.4, 1} {
		members[0].Available = available
		places := affine(t, slices.Clone(members), 0, keys)
		if got := float64(count(places, 0)) / keys; math.Abs(got-available) > 0.01 {
			t.Errorf("available %.2f: %.3f of the keys", available, got)
		}
		for i, at := range had {
			if at == 0 && places[i] != 0 {
				t.Fatalf("available %.2f: key %d left the primary", available, i)
			}
			if at != places[i] && places[i] != 0 {
				t.Fatalf("available %.2f: key %d moved from %d to %d", available, i, at, places[i])
			}
		}
		had = places
	}
}

// TestAffineWithoutExcluded checks that the keys of an excluded member spread over the
// others.
func TestAffineWithoutExcluded(t *testing.T) {
	table := seeded(tierOfWeights(1, 1, 1), 0)
	places := make(map[int]int)
	for i := range 3000 {
		key := Hash(fmt.Sprint(i))
		first := table.Affine(key, nil)
		second := table.Affine(key, func(j int) bool { return j == first })
		if second < 0 || second == first {
			t.Fatalf("key %d: %d after %d", i, second, first)
		}
		places[second]++
		if none := table.Affine(key, func(int) bool { return true }); none != -1 {
			t.Fatalf("key %d goes to %d, which is excluded", i, none)
		}
	}
	for i, n := range places {
		if n < 850 || n > 1150 {
			t.Errorf("member %d is second for %d keys of 3000", i, n)
		}
	}
}

func BenchmarkAffine(b *testing.B) {
	table := seeded(tierOfWeights(make([]float64, 30)...), 0)
	for i := range table.Members {
		table.Members[i].Weight = 1
	}
	key := uint64(0)
	b.ReportAllocs()
	for b.Loop() {
		key++
		table.Affine(key, nil)
	}
}
