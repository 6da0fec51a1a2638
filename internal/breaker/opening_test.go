package breaker

import (
	"math"
	"testing"
	"time"
)

// TestBreakerOpenPeriods checks that open periods double with each relapse up to a limit, and that
// jitter of 20 % spreads them evenly.
func TestBreakerOpenPeriods(t *testing.T) {
	cfg := defaultBreaker()
	for cause, periods := range map[string][]time.Duration{
		ReasonConsecutive: {5, 10, 10, 10},
		ReasonSlower:      {5, 10, 10, 10},
		reasonDenied:      {5, 10, 20, 40, 80, 160, 300, 300, 300},
	} {
		for relapses, want := range periods {
			want *= time.Second
			if got := cfg.period(relapses, cfg.longest(cause)); got != want {
				t.Errorf("%s, after %d relapses: %v, want %v", cause, relapses, got, want)
			}
			shortest, longest, sum := time.Duration(math.MaxInt64), time.Duration(0), time.Duration(0)
			const times = 2000
			for range times {
				b := Breaker{Relapses: relapses}
				b.open(epoch, cfg, cause)
				period := b.Until.Sub(epoch)
				shortest, longest, sum = min(shortest, period), max(longest, period), sum+period
			}
			if shortest < want*8/10 || longest > want*12/10 {
				t.Errorf("%s, after %d relapses: from %v to %v, which is more than 20 %% away from %v", cause, relapses, shortest, longest, want)
			}
			if shortest > want*82/100 || longest < want*118/100 || sum/times < want*98/100 || sum/times > want*102/100 {
				t.Errorf("%s, after %d relapses: from %v to %v, on average %v: not spread evenly around %v", cause, relapses, shortest, longest, sum/times, want)
			}
		}
	}
	// Many relapses from another configuration do not overflow.
	day := defaultBreaker(func(cfg *Config) { cfg.OpenFor, cfg.OpenMax = 24*time.Hour, 24*time.Hour })
	if got := day.period(60, day.OpenMax); got != 24*time.Hour {
		t.Errorf("got %v", got)
	}
}

// TestBreakerWaitsLongForCredentialsOnly checks that open periods grow to minutes only while the
// endpoint refuses its own credentials, and are short again after the first other failure.
func TestBreakerWaitsLongForCredentialsOnly(t *testing.T) {
	r := newBreakerRun(t, defaultBreaker())
	opened := func(event, cause string, longest time.Duration) {
		t.Helper()
		r.do(event)
		period := r.b.Until.Sub(r.now)
		if r.b.Opened != cause || period < longest*8/10 || period > longest*12/10 {
			t.Fatalf("after %q: open for %v because of %q, want %v because of %q", event, period, r.b.Opened, longest, cause)
		}
		r.advance(r.b.Until)
	}
	const s = time.Second
	opened("fail 5", ReasonConsecutive, 5*s)
	for range 9 {
		opened("fail", ReasonConsecutive, 10*s)
	}
	for _, longest := range []time.Duration{20 * s, 40 * s, 80 * s, 160 * s, 300 * s, 300 * s} {
		opened("denied", reasonDenied, longest)
	}
	opened("fail", reasonTrialFailed, 10*s)
	opened("denied", reasonDenied, 300*s)
}

// TestBreakerIsBackSoonInAQuietPool checks that an endpoint with a call every 4 s has a trial
// within 16 s (an open period and a call) after it works again, after an outage of any length.
func TestBreakerIsBackSoonInAQuietPool(t *testing.T) {
	const every = 4 * time.Second
	for _, outage := range []time.Duration{time.Minute, 10 * time.Minute, 24 * time.Hour} {
		r := newBreakerRun(t, defaultBreaker())
		r.do("fail 5")
		call := func(event string) bool {
			r.advance(r.now.Add(every))
			if wants, _ := r.b.WantsTrial(r.now, r.cfg); wants {
				r.do(event)
				return true
			}
			return false
		}
		for r.now.Before(epoch.Add(outage)) {
			call("fail")
		}
		well := r.now
		for !call("ok") {
		}
		if took := r.now.Sub(well); took > 12*time.Second+every {
			t.Errorf("down for %v, and tried %v after that", outage, took)
		}
	}
}

// TestBreakerForgivesRelapses checks that each minute with a success, in which the breaker is closed,
// cancels a relapse.
func TestBreakerForgivesRelapses(t *testing.T) {
	r := newBreakerRun(t, defaultBreaker(func(cfg *Config) { cfg.OpenMax = 5 * time.Minute }))
	r.do("fail 5")
	for range 20 {
		r.advance(r.b.Until)
		r.do("fail")
	}
	// Relapses that would not lengthen the period are not counted.
	if r.b.Relapses != 6 {
		t.Fatalf("%d relapses, want 6", r.b.Relapses)
	}
	r.advance(r.b.Until)
	for r.b.State != Closed {
		r.do("ok")
		r.advance(r.now.Add(100 * time.Millisecond))
	}
	closed := r.now
	at := func(d time.Duration, want int) {
		t.Helper()
		r.advance(closed.Add(d))
		if r.b.Relapses != want {
			t.Fatalf("%v after closing: %d relapses, want %d", d, r.b.Relapses, want)
		}
	}
	at(5*time.Minute, 6) // no success, no forgiveness
	r.do("fail")
	at(6*time.Minute, 6)
	r.do("ok")
	at(6*time.Minute+tickEvery, 5)
	at(9*time.Minute, 5) // each relapse needs another success
	r.do("ok")
	at(9*time.Minute+tickEvery, 4)
	for i := range 10 {
		r.do("ok")
		at(time.Duration(10*60+1+61*i)*time.Second, max(0, 3-i))
	}
	r.do("fail 5")
	if period := r.b.Until.Sub(r.now); period > 6*time.Second {
		t.Errorf("without a relapse it opens for %v", period)
	}
}

// TestBreakerTellsOfFailedTrialsUntilPeriodsAreLongest checks that trials of an endpoint that stays out are
// no news once open periods are as long as they get, and that its return is.
func TestBreakerTellsOfFailedTrialsUntilPeriodsAreLongest(t *testing.T) {
	r := newBreakerRun(t, defaultBreaker())
	r.do("fail 5")
	for range 20 {
		r.advance(r.b.Until)
		r.do("fail")
	}
	if r.b.State != Open || r.b.Told.State != Open || r.b.Told.Turn != 5 || r.b.Until.Sub(r.now) < 8*time.Second {
		t.Errorf("after 20 failed trials: %v, open for %v", r.b.Told, r.b.Until.Sub(r.now))
	}
	r.advance(r.b.Until)
	r.do("ok")
	if r.b.Told.State != Recovering || r.b.Told.Turn != 6 || !r.b.Told.Since.Equal(r.now) {
		t.Errorf("after a success: %v", r.b.Told)
	}
}

// TestBreakerOpensLongerTheThirdTime checks that a breaker that opens for the third time within five minutes
// stays open longer, and not if that takes more time.
func TestBreakerOpensLongerTheThirdTime(t *testing.T) {
	for pause, want := range map[time.Duration]int{30 * time.Second: 1, 3 * time.Minute: 0} {
		var b Breaker
		now := epoch
		for i := range 3 {
			b.open(now, defaultBreaker(), ReasonConsecutive)
			if relapses := b.Relapses; relapses != want && i == 2 || relapses != 0 && i < 2 {
				t.Errorf("opened every %v: %d relapses at the %d. time", pause, relapses, i+1)
			}
			b.Transition(Closed, now.Add(time.Second), ReasonRecovered)
			now = now.Add(pause)
		}
	}
}
