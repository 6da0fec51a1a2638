package speed

import "testing"

func TestRatios(t *testing.T) {
	ours := []turn{{cpu: 11}, {cpu: 22}, {cpu: 33}}
	stock := []turn{{cpu: 10}, {cpu: 20}, {cpu: 30}}
	ratio, between := ratios(ours, stock, turn.cost)
	if ratio < 1.0999 || ratio > 1.1001 || between[0] < 1.0999 || between[1] > 1.1001 {
		t.Errorf("ratio %v in %v, want 1.1", ratio, between)
	}
}

// TestRatiosOfLives has two lives of many rounds, one costly and one cheap. More rounds
// must not narrow the interval, because they do not show which life is typical.
func TestRatiosOfLives(t *testing.T) {
	var ours, stock []turn
	for round := range 100 {
		life := round / 50
		ours = append(ours, turn{cpu: 10 + float64(life), life: life})
		stock = append(stock, turn{cpu: 10, life: life})
	}
	_, between := ratios(ours, stock, turn.cost)
	if between[0] != 1 || between[1] != 1.1 {
		t.Errorf("the ratio is in %v, want 1 to 1.1", between)
	}
}
