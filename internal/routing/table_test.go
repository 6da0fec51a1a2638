package routing

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// layOut returns the table of members, which must be sorted by priority.
func layOut(overflow float64, members ...Member) *Table { return New(members, overflow) }

// grid is the number of positions in [0, 1) that tests draw at.
const grid = 10_000

func shares(t *Table) []float64 {
	list := make([]float64, len(t.Members))
	for i := range list {
		list[i] = t.Share(i)
	}
	return list
}

func near(a, b []float64, by float64) bool {
	return slices.EqualFunc(a, b, func(x, y float64) bool { return math.Abs(x-y) <= by })
}

func TestTableShares(t *testing.T) {
	for _, test := range []struct {
		name     string
		overflow float64
		places   []Member
		want     []float64
	}{
		{"one", 0, []Member{{1, 1, 1}}, []float64{1}},
		{"the second tier waits", 0, []Member{{1, 1, 1}, {2, 1, 1}, {3, 1, 1}}, []float64{1, 0, 0}},
		{"weights", 0, []Member{{1, 3, 1}, {1, 1, 1}}, []float64{0.75, 0.25}},
		{"a recovering primary", 0, []Member{{1, 1, 0.1}, {2, 1, 1}}, []float64{0.1, 0.9}},
		{"a dead primary", 0, []Member{{1, 1, 0}, {2, 1, 1}, {3, 1, 1}}, []float64{0, 1, 0}},
		{"a recovering one of two equals", 0, []Member{{1, 1, 0.25}, {1, 1, 1}, {2, 1, 1}}, []float64{0.2, 0.8, 0}},
		{"a tier is as good as its best", 0, []Member{{1, 1, 0.5}, {1, 1, 0.2}, {2, 1, 1}}, []float64{0.5 * 5 / 7, 0.5 * 2 / 7, 0.5}},
		{"three tiers", 0, []Member{{1, 1, 0.5}, {2, 1, 0.5}, {3, 1, 1}}, []float64{0.5, 0.25, 0.25}},
		{"what remains is spread by capacity", 0, []Member{{1, 1, 0.2}, {2, 1, 0.3}}, []float64{0.2 + 0.56*0.4, 0.24 + 0.56*0.6}},
		{"the last one bears all", 0, []Member{{1, 1, 0.05}, {2, 1, 0}}, []float64{1, 0}},
		{"weight 0 takes no traffic", 0, []Member{{1, 0, 1}, {1, 2, 1}, {2, 1, 1}}, []float64{0, 1, 0}},
		{"weight 0 alone in its tier", 0, []Member{{1, 0, 1}, {2, 1, 1}}, []float64{0, 1}},
		{"all out", 0, []Member{{1, 1, 0}, {2, 0, 1}}, []float64{0, 0}},
		{"none", 0, nil, []float64{}},
		{"overflow: healthy", 1.4, []Member{{1, 1, 1}, {1, 1, 1}, {2, 1, 1}}, []float64{0.5, 0.5, 0}},
		{"overflow: a third is gone, and that is in reserve", 1.5, []Member{{1, 1, 1}, {1, 1, 1}, {1, 1, 0}, {2, 1, 1}}, []float64{0.5, 0.5, 0, 0}},
		{"overflow: half is gone", 1.4, []Member{{1, 1, 1}, {1, 1, 0}, {2, 1, 1}}, []float64{0.7, 0, 0.3}},
		{"overflow: by weight", 1, []Member{{1, 3, 0.5}, {1, 1, 1}, {2, 1, 1}}, []float64{0.625 * 0.6, 0.625 * 0.4, 0.375}},
		{"overflow: all are weak", 1, []Member{{1, 1, 0.25}, {2, 1, 0.25}}, []float64{0.25 + 0.5625/2, 0.1875 + 0.5625/2}},
	} {
		t.Run(test.name, func(t *testing.T) {
			table := layOut(test.overflow, test.places...)
			if got := shares(table); !near(got, test.want, 1e-12) {
				t.Fatalf("got %v, want %v", got, test.want)
			}
			// Draws must match the parts of the table.
			drawn := make([]float64, len(test.places))
			for i := range grid {
				if table.Total == 0 {
					if at := table.Draw(0.5); at != -1 {
						t.Fatalf("drew %d, but all are out", at)
					}
					continue
				}
				at := table.search((float64(i) + 0.5) / grid * table.Total)
				drawn[at] += 1.0 / grid
			}
			if !near(drawn, test.want, 1.5/grid) {
				t.Errorf("drew %v, want %v", drawn, test.want)
			}
		})
	}
}

// TestTableDrawsAtTheEdges draws at positions that rounding can produce.
func TestTableDrawsAtTheEdges(t *testing.T) {
	table := layOut(0, Member{1, 0, 1}, Member{1, 1, 1}, Member{1, 1, 0}, Member{2, 1, 0})
	for _, u := range []float64{0, math.SmallestNonzeroFloat64, 0.5, math.Nextafter(table.Total, 0), table.Total} {
		if at := table.search(u); at != 1 {
			t.Errorf("at %v: drew %d", u, at)
		}
	}
}

// randomPlaces returns one to eight members in up to three tiers.
func randomPlaces(rng *rand.Rand) []Member {
	places := make([]Member, 1+rng.IntN(8))
	priority := 1
	for i := range places {
		if rng.IntN(3) == 0 {
			priority++
		}
		places[i] = Member{priority, float64(rng.IntN(4)), float64(rng.IntN(5)) / 4}
	}
	return places
}

// TestTableProperties checks random tables: no part is negative, the parts add up to 1 or
// 0, and members that are out get none.
func TestTableProperties(t *testing.T) {
	for seed := range uint64(5000) {
		rng := rand.New(rand.NewPCG(seed, 1))
		places := randomPlaces(rng)
		table := layOut(float64(rng.IntN(3)), places...)
		sum, usable := 0.0, false
		for i, p := range places {
			share := table.Share(i)
			out := p.Weight == 0 || p.Available == 0
			if share < 0 || share > 1+1e-12 || out != (share == 0) && (out || table.Total == 0) {
				t.Fatalf("seed %d: place %d of %v has %v", seed, i, places, share)
			}
			sum += share
			usable = usable || !out
		}
		if usable && math.Abs(sum-1) > 1e-12 || !usable && sum != 0 {
			t.Fatalf("seed %d: the parts of %v add up to %v", seed, places, sum)
		}
	}
}

// TestRedraw compares second draws with the table of the remaining members.
func TestRedraw(t *testing.T) {
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 2))
		places := randomPlaces(rng)
		overflow := float64(rng.IntN(3))
		table := layOut(overflow, places...)
		out := make([]bool, len(places))
		excluded := func(i int) bool { return out[i] }
		left := slices.Clone(places)
		for i := range left {
			if rng.IntN(3) == 0 {
				left[i].Available = 0
				out[i] = true
			}
		}
		want := shares(layOut(overflow, left...))
		got := make([]float64, len(places))
		for i := range grid {
			at := table.Redraw((float64(i)+0.5)/grid, excluded)
			if at < 0 {
				continue
			}
			if out[at] {
				t.Fatalf("seed %d: drew an excluded member", seed)
			}
			got[at] += 1.0 / grid
		}
		if !near(got, want, 3.0/grid) {
			t.Fatalf("seed %d: %v without the excluded ones: got %v, want %v", seed, places, got, want)
		}
		for _, u := range []float64{0, math.Nextafter(1, 0)} {
			if at := table.Redraw(u, excluded); at >= 0 && out[at] {
				t.Fatalf("seed %d: drew an excluded member", seed)
			}
		}
	}
}

// TestDrawTwo checks that the member with the higher load is picked only if both draws hit
// it, and that the split between tiers does not change.
func TestDrawTwo(t *testing.T) {
	table := layOut(0, Member{1, 1, 0.5}, Member{1, 1, 0.5}, Member{2, 3, 1}, Member{2, 1, 1})
	loads := make([]float64, 4)
	load := func(i int) float64 { return loads[i] }
	const draws = 40_000
	for _, test := range []struct {
		name  string
		loads []float64
		want  []float64
	}{
		{"equal", []float64{0, 0, 0, 0}, []float64{0.25, 0.25, 0.375, 0.125}},
		{"the first has more", []float64{0.8, 0.1, 0, 0}, []float64{0.125, 0.375, 0.375, 0.125}},
		{"the second has more", []float64{0.1, 0.2, 0, 0}, []float64{0.375, 0.125, 0.375, 0.125}},
		{"by weight", []float64{0, 0, 1, 0}, []float64{0.25, 0.25, 0.5 * 9 / 16, 0.5 * 7 / 16}},
	} {
		copy(loads, test.loads)
		got := make([]float64, 4)
		for n := range uint64(draws) {
			got[table.DrawTwo(Spot(n), load)] += 1.0 / draws
		}
		if !near(got, test.want, 0.015) {
			t.Errorf("%s: got %v, want %v", test.name, got, test.want)
		}
	}
	if at := layOut(0, Member{1, 1, 0}).DrawTwo(0.5, load); at != -1 {
		t.Errorf("drew %d, but all are out", at)
	}
}

// TestTurnsSpread checks that a member gets its part of any few consecutive calls, also if
// they are only every second or third call of a pool.
func TestTurnsSpread(t *testing.T) {
	table := layOut(0, Member{1, 1, 0.5}, Member{1, 3, 0.5}, Member{2, 1, 1})
	want := shares(table)
	const run = 40
	for range 1000 {
		for every := range uint64(3) {
			got := make([]float64, len(want))
			for i, n := 0, rand.Uint64(); i < run; i, n = i+1, n+every+1 {
				got[table.Draw(Spot(n))] += 1.0 / run
			}
			if !near(got, want, 3.5/run) {
				t.Fatalf("%d turns, every %d: got %v, want %v", run, every+1, got, want)
			}
		}
	}
}
