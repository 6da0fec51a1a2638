package budget

import "testing"

func TestHedgeBudget(t *testing.T) {
	var b Hedges
	hedges := 0
	for calls := range int64(10000) {
		if b.Take(calls, 0.05) {
			hedges++
		}
	}
	if hedges < 480 || hedges > 500 {
		t.Errorf("%d hedges for 10000 calls", hedges)
	}
	b.Take(1000000, 0.05)
	burst := 0
	for b.Take(1000000, 0.05) {
		burst++
	}
	if burst > maxSaved {
		t.Errorf("%d hedges at once", burst)
	}
}
