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

	"503 for one model":  playing(func() actor.Behaviour { return actor.OnlyModel(anyModel(), actor.Unavailable) }),
	"429 for one model":  playing(func() actor.Behaviour { return actor.OnlyModel(anyModel(), actor.AskToWait(1)) }),
	"hang for one model": playing(func() actor.Behaviour { return actor.OnlyModel(anyModel(), actor.Hang) }),
	"quota used up":      playing(always(actor.UseUp(1))),
}

func anyModel() string { return models[rand.IntN(len(models))] }

// lonelyFaults are those of the lonely pool's endpoint. Its requests wait until they can be sent
// again, so no client sees them. (A failure status would go to the client.)
var lonelyFaults = map[string]func(*actor.Actor){
	"crash":      (*actor.Actor).Crash,
	"hang":       playing(always(actor.Hang)),
	"flapping":   playing(func() actor.Behaviour { return actor.Flap(300 * time.Millisecond) }),
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
			t.plays(name)
			faults[name](a)
		}
	}
}

func (t *trial) plays(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.Faults[name]++
}

// playLonelyFaults makes the lonely pool's endpoint fail for up to 2 s at a time until quit.
func (t *trial) playLonelyFaults(quit chan struct{}) {
	names := slices.Sorted(maps.Keys(lonelyFaults))
	t.alternate(quit, 6*time.Second, 2*time.Second, func() {
		name := names[rand.IntN(len(names))]
		t.plays("alone: " + name)
		lonelyFaults[name](t.alone)
	}, func() {
		if err := t.alone.Heal(); err != nil {
			t.problem("%v", err)
		}
	})
}

// loseEngine makes the fleet's engine hang for up to 4 s at a time until quit.
func (t *trial) loseEngine(quit chan struct{}) {
	t.alternate(quit, 20*time.Second, 4*time.Second, func() {
		t.plays("engine: hang")
		t.engineLine.Deafen()
	}, t.engineLine.Heal)
}

// alternate calls begin after at most well, end after at most unwell, and so on, until quit. At
// last it calls end.
func (t *trial) alternate(quit chan struct{}, well, unwell time.Duration, begin, end func()) {
	defer end()
	for {
		for _, turn := range []struct {
			most time.Duration
			then func()
		}{{well, begin}, {unwell, end}} {
			select {
			case <-quit:
				return
			case <-time.After(turn.most/4 + rand.N(turn.most*3/4)):
			}
			turn.then()
		}
	}
}

// drain drains endpoints a and b in turn for 2 s, at an instance that tells the others, until quit.
func (t *trial) drain(quit chan struct{}) {
	for n := 0; ; n++ {
		select {
		case <-quit:
			return
		case <-time.After(5*time.Second + rand.N(5*time.Second)):
		}
		if err := t.instances[0].now.Load().admin.drain(mixedPool, endpointNames[n%2], 2*time.Second); err != nil {
			t.problem("draining: %v", err)
			continue
		}
		t.plays("drained by an operator")
	}
}
