package anomaly

import (
	"math"
	"testing"
	"time"
)

// TestFewerCallsKnowLess checks that less traffic raises no alarm of latency where latency
// varies by chance alone. The baseline must trust fewer calls less until it has learnt the
// new level.
func TestFewerCallsKnowLess(t *testing.T) {
	const moves = 100
	alarms := 0
	for seed := range uint64(moves) {
		w := newWorld(seed)
		l := usual
		l.rate = 200
		w.run(2*time.Hour, l)
		l.rate = 1
		w.run(8*time.Hour, l)
		alarms += began(w.take())[Latency]
	}
	t.Logf("200 to 1 rps: %d alarms of latency in %d moves", alarms, moves)
	if alarms > 0 {
		t.Errorf("%d alarms of latency", alarms)
	}
}

// TestMoreCallsShareCauses has failures in spells, which look like chance while calls are
// few. They must raise no alarm with many calls either. A burst must still raise one.
func TestMoreCallsShareCauses(t *testing.T) {
	const moves = 40
	for _, correlation := range []float64{0, 0.5, 0.7} {
		alarms, found := 0, 0
		var slowest time.Duration
		for seed := range uint64(moves) {
			w := newWorld(seed)
			spell := 0.0
			spells := func(l load, _ time.Duration) load {
				spell = correlation*spell + math.Sqrt(1-correlation*correlation)*w.r.NormFloat64()
				l.failures *= math.Exp(0.5 * spell)
				return l
			}
			l := usual
			l.rate = 1
			w.run(3*time.Hour, l, spells)
			l.rate = 200
			w.run(time.Hour, l, spells)
			alarms += began(w.take())[FailureRatio]
			onset := w.now
			l.failures = 0.5
			w.run(3*minute, l)
			for _, c := range w.take() {
				if c.Kind == FailureRatio && c.Began {
					found++
					slowest = max(slowest, c.At.Sub(onset))
				}
			}
		}
		t.Logf("1 to 200 rps, failing in spells, correlation %v: %d alarms in %d moves; half failing then: %d found, within %v",
			correlation, alarms, moves, found, slowest)
		if alarms > 1 || found < moves {
			t.Errorf("correlation %v: %d false alarms, %d of %d bursts found", correlation, alarms, found, moves)
		}
	}
}

// TestUnsteadyTraffic checks traffic that comes and goes by the minute.
func TestUnsteadyTraffic(t *testing.T) {
	total := 0
	const seeds = 10
	for seed := range uint64(seeds) {
		w := newWorld(seed)
		on := true
		w.run(day, usual, func(l load, _ time.Duration) load {
			if w.r.IntN(6) == 0 {
				on = !on
			}
			if !on {
				l.rate = 0
			}
			return l
		})
		total += began(w.take())[Traffic]
	}
	t.Logf("traffic on and off for a minute each on average: %d alarms in %d days", total, seeds)
	if total > 0 {
		t.Errorf("%d alarms of traffic that never was steady", total)
	}
}

// TestLateSteps checks that a sample over twice the time, with twice the calls, is no
// surge.
func TestLateSteps(t *testing.T) {
	w := newWorld(1)
	w.run(time.Hour, usual)
	for range 20 {
		w.now = w.now.Add(Step)
		w.add(w.sample(scaled(usual, 2)))
	}
	expect(t, "late steps", w.take())
}
