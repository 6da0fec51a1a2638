package endpoint

import (
	"testing"
	"time"
)

// TestResponsesLeftOnOneConnection checks that responses on one connection count once, if clients leave them
// together.
func TestResponsesLeftOnOneConnection(t *testing.T) {
	const ms = time.Millisecond
	for name, test := range map[string]struct {
		n     int
		every time.Duration
		again bool // the connection of the one before
		want  int
	}{
		"one connection each":               {12, 0, false, 12},
		"one connection, at once":           {12, 0, true, 1},
		"one connection, one after another": {12, 100 * ms, true, 2},
		"the endpoint, for long":            {12, time.Second, true, 12},
	} {
		t.Run(name, func(t *testing.T) {
			r := newStateRun(t, defaultBreaker())
			for i := range test.n {
				a := r.waiting()
				a.Finite, a.DiedAgain = true, test.again && i > 0
				r.s.Mu.Lock()
				r.s.own.leftInSilence(a, 3*time.Second, r.now, r.cfg)
				r.s.Mu.Unlock()
				r.now = r.now.Add(test.every)
			}
			if got := r.s.own.silence.run; got != test.want {
				t.Errorf("%d count, want %d", got, test.want)
			}
		})
	}
}
