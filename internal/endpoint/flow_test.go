package endpoint

import (
	"testing"
	"time"
)

// TestFlow checks the measured time for flowUnit bytes, with a look each 50 ms.
func TestFlow(t *testing.T) {
	const look = 50 * time.Millisecond
	for _, test := range []struct {
		name string
		part string
		each int // looks from one part to the next
		busy int // how many of these looks pass before the client reads again
		want time.Duration
	}{
		{"1 KB/s", "12345678901234567890123456789012345678901234567890", 1, 0, 16384 * time.Millisecond},
		{"100 B/s", "12345678901234567890123456789012345678901234567890", 10, 0, 163840 * time.Millisecond},
		{"half of the time is the client's", "12345678901234567890123456789012345678901234567890", 10, 5, 81920 * time.Millisecond},
		{"heartbeats", ": hi\n\n", 10, 0, 0},
		{"pings", "event: ping\ndata: {}\n\n", 10, 0, 0},
		{"a pause of 20 s between parts", "data: 1\n\n", 400, 0, 0},
	} {
		w, now := new(Flow), time.Unix(0, 0)
		var got time.Duration
		for i := range 2000 {
			now = now.Add(look)
			switch i % test.each {
			case 0:
				w.Got([]byte(test.part))
				if test.busy == 0 {
					w.Waits()
				}
			case test.busy:
				w.Waits()
			}
			if w.look(now, true) {
				got = w.perUnit()
			}
		}
		if got < test.want*9/10 || got > test.want*11/10 {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
		if w.events.Load() != (test.want == 0) {
			t.Errorf("%s: events %t", test.name, w.events.Load())
		}
	}
}

// TestFlowOfClients checks that the time in which the attempt waits for its client does not count.
func TestFlowOfClients(t *testing.T) {
	w, now := new(Flow), time.Unix(0, 0)
	for range 100 {
		now = now.Add(time.Second)
		w.Got([]byte("x"))
		w.Waits()
		w.look(now, false)
	}
	if w.waited != 0 {
		t.Errorf("%v count", w.waited)
	}
}
