package soak

import (
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/apifailover/caddy-failover/bench/internal/actor"
)

// playing returns a fault with the given behaviour. b creates one each time.
func playing(b func() actor.Behaviour) func(*actor.Actor) {
	return func(a *actor.Actor) { a.Play(b()) }
}

func always(b actor.Behaviour) func() actor.Behaviour { return func() actor.Behaviour { return b } }

var faults = map[string]func(*actor.Actor){
	"crash":      (*actor.Actor).Crash,
	"hang":       playing(always(actor.Hang)),
	"503":        playing(always(actor.Unavailable)),
	"30 % 500":   playing(always(actor.Sometimes(0.3))),
	"POST 503":   playing(always(actor.FailPOST)),
	"slow":       playing(always(actor.Slow)),
	"flapping":   playing(func() actor.Behaviour { return actor.Flap(300 * time.Millisecond) }),
	"429":        playing(always(actor.AskToWait(1))),
	"cut bodies": playing(always(actor.CutBodies)),
}

// playFaults makes all endpoints but the last fail at random until quit. Every one to three
// seconds it heals one of them, which in two of three cases fails anew.
func (t *trial) playFaults(quit chan struct{}) {
	names := slices.Sorted(maps.Keys(faults))
	for {
		select {
		case <-quit:
			return
		case <-time.After(time.Second + rand.N(2*time.Second)):
		}
		a := t.endpoints[rand.IntN(len(t.endpoints)-1)]
		if err := a.Heal(); err != nil {
			t.problem("%v", err)
		}
		if rand.IntN(3) > 0 {
			name := names[rand.IntN(len(names))]
			t.Faults[name]++
			faults[name](a)
		}
	}
}
