package breaker

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// playBreaker makes a random sequence of events happen, and checks after each:
//   - the breaker gives no permit while it is open, and one at a time while it is on trial;
//   - its share fits its state;
//   - reads and results of earlier generations change nothing;
//   - the state changes only with a new generation, and only as the table of transitions says.
//
// At the end, it checks that the breaker closes within a bounded time if everything succeeds.
func playBreaker(t *testing.T, script []byte) {
	read := func() byte {
		if len(script) == 0 {
			return 0
		}
		b := script[0]
		script = script[1:]
		return b
	}
	cfg := defaultBreaker(func(cfg *Config) {
		cfg.ConsecutiveFailures = int(read() % 8)
		cfg.FailureRatio = float64(read()%5) / 4
		cfg.MinRequests = 1 + int(read()%20)
		cfg.SlowRatio = float64(read()%3) / 2
		cfg.SlowAfter = time.Second
		cfg.OpenFor = time.Duration(1+read()%50) * 100 * time.Millisecond
		cfg.OpenMax = cfg.OpenFor * time.Duration(1+read()%30)
		cfg.DeniedMax = cfg.OpenMax
		cfg.Start = float64(1+read()%20) / 20
		cfg.Step = time.Duration(1+read()%10) * 100 * time.Millisecond
		cfg.Off = read()%50 == 49
	})
	r := newBreakerRun(t, cfg)
	type attempt struct {
		Permit
		trialUntil time.Time // when a trial expires; zero for other attempts
	}
	var inFlight []attempt
	allowed := map[[2]State]bool{
		{Closed, Open}: true, {Open, Recovering}: true,
		{Recovering, Open}: true, {Recovering, Closed}: true,
	}
	// step makes one event happen, and checks the promises afterwards.
	step := func(what string, operator bool, event func()) {
		t.Helper()
		before := r.b
		event()
		after := r.b
		got := r.standing()
		switch got.state {
		case Closed, ForcedClosed:
			if got.share != 1 {
				t.Fatalf("%s: %v with share %v", what, got.state, got.share)
			}
		case Open:
			if got.share != 0 && !cfg.Off {
				t.Fatalf("%s: open with share %v", what, got.share)
			}
		case ForcedOpen:
			if got.share != 0 {
				t.Fatalf("%s: forced open with share %v", what, got.share)
			}
		case Recovering:
			if !cfg.Off && (got.share != 0 && got.share < cfg.Start || got.share >= 1) {
				t.Fatalf("%s: recovering with share %v", what, got.share)
			}
		}
		if after.Generation < before.Generation || after.State != before.State && after.Generation == before.Generation {
			t.Fatalf("%s: %v to %v, generation %d to %d", what, before.State, after.State, before.Generation, after.Generation)
		}
		if after.State == before.State || operator || cfg.Off {
			return
		}
		path := [2]State{before.State, after.State}
		// If the first share is 1, one event can end the recovery that it begins.
		if !allowed[path] && after.Generation-before.Generation < 2 {
			t.Fatalf("%s: went from %v to %v", what, before.State, after.State)
		}
	}
	begin := func(acquire func(time.Time, *Config) (Permit, bool), last bool) {
		before := r.b
		p, ok := acquire(r.now, cfg)
		if !ok {
			return
		}
		if before.State == ForcedOpen || before.State == Open && !last && !cfg.Off {
			t.Fatalf("a permit while %v", before.State)
		}
		if r.b.OnTrial(cfg) {
			for _, other := range inFlight {
				if other.Generation == p.Generation && r.now.Before(other.trialUntil) {
					t.Fatalf("a second trial beside one of generation %d", p.Generation)
				}
			}
			if p.Trial == 0 {
				t.Fatal("a permit on trial is no trial")
			}
		}
		a := attempt{Permit: p}
		if p.Trial != 0 {
			a.trialUntil = r.b.trialUntil
		}
		inFlight = append(inFlight, a)
	}
	for len(script) > 0 {
		op, arg := read(), read()
		switch op % 12 {
		case 0, 1:
			step("acquiring", false, func() { begin(r.b.Acquire, false) })
		case 2:
			step("acquiring in a pool that is down", false, func() { begin(r.b.AcquireLast, true) })
		case 3, 4, 5, 6:
			if len(inFlight) == 0 {
				continue
			}
			i := int(arg) % len(inFlight)
			p := inFlight[i].Permit
			inFlight = append(inFlight[:i], inFlight[i+1:]...)
			before := r.b
			step("reporting", false, func() {
				switch op % 12 {
				case 3:
					r.b.Report(r.now, cfg, p, Result{})
				case 4:
					r.b.Report(r.now, cfg, p, Result{Failed: true, Denied: arg%3 == 0})
				case 5:
					r.b.Report(r.now, cfg, p, Result{Slow: true})
				case 6:
					r.b.Cancel(r.now, p)
				}
			})
			if p.Generation != before.Generation && r.b != before {
				t.Fatal("a result of an earlier generation changed the breaker")
			}
		case 7:
			if len(inFlight) > 0 {
				step("a response", false, func() { r.b.Answered(r.now, cfg, &inFlight[int(arg)%len(inFlight)].Permit, arg%2 == 0) })
			}
		case 8, 9:
			d := time.Duration(arg) * time.Duration(arg) * time.Millisecond // up to a minute
			step("waiting", false, func() { r.now = r.now.Add(d); r.b.Tick(r.now, cfg) })
		case 10:
			step("ticking", false, func() { r.b.Tick(r.now, cfg) })
		case 11:
			switch arg % 16 {
			case 0:
				step("tripping", true, func() { r.b.Trip(r.now, cfg, ReasonOperator) })
			case 1:
				step("forcing", true, func() { r.b.Force(r.now, ForcedOpen) })
			case 2:
				step("forcing", true, func() { r.b.Force(r.now, ForcedClosed) })
			case 3, 4, 5:
				step("resetting", true, func() { r.b.Reset(r.now) })
			}
		}
	}
	if r.b.State == ForcedOpen || r.b.State == ForcedClosed {
		return
	}
	// If everything succeeds, it closes after the rest of the open period, of a lost trial and of a
	// bad step, and after the growth of the share.
	const poll = 50 * time.Millisecond
	bound := cfg.OpenMax*12/10 + cfg.trialExpiry + time.Duration(3+math.Ceil((1-cfg.Start)/shareOfStep))*(cfg.Step+poll) + time.Second
	began := r.now
	for r.b.State != Closed {
		if r.now.Sub(began) > bound {
			t.Fatalf("%v after %v of successes: %+v under %+v", r.b.State, bound, r.b, *cfg)
		}
		if p, ok := r.b.Acquire(r.now, cfg); ok {
			r.b.Report(r.now, cfg, p, Result{})
		}
		r.now = r.now.Add(poll)
		r.b.Tick(r.now, cfg)
	}
}

// TestBreakerKeepsItsPromises plays random events.
func TestBreakerKeepsItsPromises(t *testing.T) {
	for seed := range uint64(4000) {
		rng := rand.New(rand.NewPCG(seed, 7))
		script := make([]byte, 10+rng.IntN(600))
		for i := range script {
			script[i] = byte(rng.Uint32())
		}
		if !t.Run(fmt.Sprint(seed), func(t *testing.T) { playBreaker(t, script) }) {
			return
		}
	}
}

func FuzzBreaker(f *testing.F) {
	f.Add([]byte("\x05\x02\x13\x00\x31\x1d\x00\x04\x00\x00\x00\x04\x00\x00\x00\x04\x00\x08\x40\x00\x00\x03\x00"))
	f.Add([]byte("\x01\x00\x00\x01\x09\x09\x00\x04\x00\x02\x00\x04\x00\x08\xff\x02\x00\x07\x01\x05\x00\x0a\x00"))
	f.Fuzz(playBreaker)
}
