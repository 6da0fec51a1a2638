package fleet

import (
	"math"
	"math/rand/v2"
	"testing"
)

// splitting plays rounds in which each instance splits by the claims of the round before, and
// returns the parts; most is the largest sum of all rounds after the first two.
func splitting(rounds int, wanted func(round, i int) float64, alive func(round, i int) bool, n int) (parts []float64, most float64) {
	claims := make([]Claim, n)
	for round := range rounds {
		next := make([]Claim, n)
		for i := range n {
			if !alive(round, i) {
				continue
			}
			own := claims[i]
			var others []Claim
			instances := 1
			for j := range n {
				if j != i && alive(round, j) && claims[j].Part > 0 {
					others = append(others, claims[j])
				}
				if j != i && alive(round, j) {
					instances++
				}
			}
			next[i] = Claim{min(1, wanted(round, i)/10), Split(own, others, instances, true)}
		}
		claims = next
		sum := 0.0
		for i := range n {
			sum += claims[i].Part
		}
		if round >= 2 {
			most = max(most, sum)
		}
	}
	for _, c := range claims {
		parts = append(parts, c.Part)
	}
	return parts, most
}

func always(int, int) bool { return true }

func TestLimitIsSplitByNeed(t *testing.T) {
	need := []float64{8, 1, 3}
	parts, most := splitting(20, func(_, i int) float64 { return need[i] }, always, 3)
	for i, part := range parts {
		if math.Abs(part-need[i]/12) > 0.01 {
			t.Errorf("instance %d takes %.3f, needs %.3f", i, part, need[i]/12)
		}
	}
	if most > 1.0001 {
		t.Errorf("together they took %.3f", most)
	}
}

func TestNeverMoreThanTheWhole(t *testing.T) {
	for range 200 {
		n := 2 + rand.IntN(8)
		_, most := splitting(60, func(int, int) float64 { return 20 * rand.Float64() * rand.Float64() }, always, n)
		if most > 1.0001 {
			t.Fatalf("%d instances together took %.4f", n, most)
		}
	}
}

func TestWhatOneLeavesTheOthersTake(t *testing.T) {
	parts, most := splitting(40, func(int, int) float64 { return 5 }, func(round, i int) bool { return i > 0 || round < 10 }, 3)
	if math.Abs(parts[1]+parts[2]-1) > 0.01 || math.Abs(parts[1]-0.5) > 0.01 {
		t.Errorf("the others take %.3f and %.3f", parts[1], parts[2])
	}
	if most > 1.0001 {
		t.Errorf("together they took %.3f", most)
	}
}

func TestWithoutNewsNothingGrows(t *testing.T) {
	if part := Split(Claim{1, 0.3}, nil, 1, false); part != 0.3 {
		t.Errorf("it takes %v", part)
	}
	if part := Split(Claim{1, 0.3}, []Claim{{0.1, 0.1}}, 2, false); part != 0.3 {
		t.Errorf("it takes %v", part)
	}
	if part := Split(Claim{1, 0}, nil, 4, false); part != 0.25 {
		t.Errorf("at first it takes %v", part)
	}
	if part := Split(Claim{1, 0.5}, nil, 1, true); part != 1 {
		t.Errorf("alone it takes %v", part)
	}
}

// TestIdleInstanceCanBegin: it keeps a fiftieth of an even part at least.
func TestIdleInstanceCanBegin(t *testing.T) {
	parts, _ := splitting(30, func(_, i int) float64 { return []float64{100, 0}[i] }, always, 2)
	if parts[1] <= 0 || parts[1] > 0.05 {
		t.Errorf("the idle one takes %v", parts[1])
	}
}
