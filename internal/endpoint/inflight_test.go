package endpoint

import (
	"math/rand/v2"
	"testing"
)

// TestInFlightIsASet compares inFlight with a map while both grow and shrink.
func TestInFlightIsASet(t *testing.T) {
	var set inFlight
	want := make(map[*trip]bool)
	for step := range 50_000 {
		growing := step/5_000%2 == 0
		if rand.IntN(3) > 0 == growing || len(want) == 0 {
			a := new(trip)
			set.add(a)
			want[a] = true
		} else {
			for a := range want {
				if !set.remove(&a.Ticket) || set.remove(&a.Ticket) {
					t.Fatal("an attempt is not removed once")
				}
				delete(want, a)
				break
			}
		}
		if set.empty() != (len(want) == 0) {
			t.Fatalf("empty is %v, with %d attempts", set.empty(), len(want))
		}
		if set.empty() && len(set.slots) > fewSlots {
			t.Fatalf("%d slots are kept for nothing", len(set.slots))
		}
		if step%1000 > 0 {
			continue
		}
		n := 0
		for f := range set.all() {
			if n++; !want[f.(*trip)] {
				t.Fatal("a removed attempt is in the set")
			}
		}
		if n != len(want) {
			t.Fatalf("%d attempts, want %d", n, len(want))
		}
	}
}
