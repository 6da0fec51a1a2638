package anomaly

import (
	"testing"
	"time"
)

func TestFlapping(t *testing.T) {
	type step struct {
		at       time.Duration // since start
		change   bool          // a change of state; else a step without calls
		want     string
		seen     float64
		flapping bool
	}
	s := time.Second
	tests := []struct {
		name  string
		steps []step
	}{
		{"five changes in five minutes", []step{
			{at: 0, change: true},
			{at: 60 * s, change: true},
			{at: 120 * s, change: true},
			{at: 180 * s, change: true},
			{at: 299 * s, change: true, want: "begins", seen: 5, flapping: true},
			{at: 300 * s, flapping: true},               // 4 left
			{at: 370 * s, flapping: true},               // 3 left
			{at: 380 * s, change: true, flapping: true}, // 4
			{at: 419 * s, flapping: true},               // 4
			{at: 480 * s, want: "ends", seen: 2},        // 2 left
			{at: 490 * s, change: true},                 // 3
			{at: 500 * s, change: true},                 // 4
			{at: 510 * s, change: true, want: "begins", seen: 5, flapping: true},
		}},
		{"four in five minutes, again and again", []step{
			{at: 0, change: true},
			{at: 75 * s, change: true},
			{at: 150 * s, change: true},
			{at: 225 * s, change: true},
			{at: 300 * s, change: true},
			{at: 375 * s, change: true},
			{at: 450 * s, change: true},
			{at: 525 * s, change: true},
		}},
		{"all at once, counted up to eight", []step{
			{change: true}, {change: true}, {change: true}, {change: true},
			{change: true, want: "begins", seen: 5, flapping: true},
			{change: true, flapping: true}, {change: true, flapping: true}, {change: true, flapping: true},
			{change: true, flapping: true}, {change: true, flapping: true},
			{at: 299 * s, flapping: true},
			{at: 300 * s, want: "ends", seen: 0},
		}},
		{"clock back by an hour", []step{
			{at: 3600 * s, change: true},
			{at: 3601 * s, change: true},
			{at: 3602 * s, change: true},
			{at: 3603 * s, change: true},
			{at: 0, change: true, want: "begins", seen: 5, flapping: true},
			{at: 290 * s, flapping: true},
			{at: 310 * s, want: "ends", seen: 0},
		}},
	}
	for _, tt := range tests {
		var d Detector
		for i, st := range tt.steps {
			now := start.Add(st.at)
			var got []Change
			if st.change {
				got = d.StateChanged(nil, now)
			} else {
				got = d.Add(nil, now, Sample{})
			}
			var want []Change
			if st.want != "" {
				want = []Change{{Kind: Flapping, Began: st.want == "begins", Expected: 4, Seen: st.seen, At: now}}
			}
			if len(got) != len(want) || len(got) == 1 && got[0] != want[0] {
				t.Errorf("%s, step %d: %+v, want %+v", tt.name, i, got, want)
			}
			if got := d.Flapping(now); got != st.flapping {
				t.Errorf("%s, step %d: flapping is %v", tt.name, i, got)
			}
		}
	}
}

// TestFlappingExpires checks that Flapping turns false before Add, and that reading it
// changes nothing.
func TestFlappingExpires(t *testing.T) {
	var d Detector
	for range 5 {
		d.StateChanged(nil, start)
	}
	later := start.Add(flapWindow)
	if !d.Flapping(start) || d.Flapping(later) {
		t.Error("want flapping at the start, not five minutes later")
	}
	if !isOn(&d, Flapping) {
		t.Error("reading ended it")
	}
	expect(t, "the next step", d.Add(nil, later, Sample{}), "flapping ends")
}
