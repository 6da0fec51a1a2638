package breaker

import (
	"testing"
	"time"
)

// TestNextTrial checks when the next trial comes after a failed one.
func TestNextTrial(t *testing.T) {
	const fast = 2 * time.Millisecond
	usual := 10 * time.Second // the doubled period
	for _, tt := range []struct {
		name   string
		pace   int // calls a second before it opened
		moved  Moved
		want   time.Duration
		change func(*Config)
	}{
		{"the call moved on at once", 200, Moved{On: true, After: fast, Rate: 200}, 2500 * time.Millisecond, nil},
		{"the call did not move on", 200, Moved{}, usual, nil},
		{"few calls", 10, Moved{On: true, After: fast, Rate: 10}, 5 * time.Second, nil},
		{"hardly any calls", 1, Moved{On: true, After: fast, Rate: 1}, usual, nil},
		{"hardly any calls now", 200, Moved{On: true, After: fast, Rate: 1}, usual, nil},
		{"no calls known", 200, Moved{On: true, After: fast}, usual, nil},
		{"the client waited", 200, Moved{On: true, After: 200 * time.Millisecond, Rate: 200}, 5 * time.Second, nil},
		{"the client waited long", 200, Moved{On: true, After: time.Second, Rate: 200}, usual, nil},
		{"it was slow", 200, Moved{On: true, Slow: true, After: 100 * time.Millisecond, Rate: 200}, 2500 * time.Millisecond, nil},
		{"it was slow, and there are few calls", 40, Moved{On: true, Slow: true, After: 100 * time.Millisecond, Rate: 40}, 5 * time.Second, nil},
		{"longer periods", 200, Moved{On: true, After: fast, Rate: 200}, 30 * time.Second, func(cfg *Config) {
			cfg.OpenFor, cfg.OpenMax = time.Minute, time.Hour
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, early := range []bool{true, false} { // the call moves on before the failure is reported, or after
				cfg := defaultBreaker()
				if tt.change != nil {
					tt.change(cfg)
				}
				r := newBreakerRun(t, cfg)
				for range 20 * tt.pace {
					r.advance(r.now.Add(time.Second / time.Duration(tt.pace)))
					r.do("ok")
				}
				r.do("trip")
				for trial := range 3 {
					r.advance(r.b.Until.Add(tickEvery))
					told := r.b.Told.Turn
					p, ok := r.b.Acquire(r.now, cfg)
					if !ok {
						t.Fatalf("trial %d: no permit", trial)
					}
					result := Result{Failed: !tt.moved.Slow, Slower: tt.moved.Slow}
					r.b.Opened = ReasonSlower
					if early {
						result.Moved = tt.moved
					}
					r.b.Report(r.now, cfg, p, result)
					if !early {
						r.b.MovedOn(r.now, cfg, p, tt.moved)
						r.b.MovedOn(r.now, cfg, p, tt.moved)
					}
					least, most := tt.want*8/10, tt.want*12/10
					if left := r.b.Until.Sub(r.now); left < least || left > most {
						t.Errorf("trial %d: the next one is %v away, want %v to %v", trial, left, least, most)
					}
					if silent := tt.want < usual && trial > 0; silent && r.b.Told.Turn != told {
						t.Errorf("the breaker tells of trial %d", trial)
					}
				}
			}
		})
	}
}

// TestNextTrialAfterFirstShare checks when the next trial comes after a recovery that ends at the
// first share, or later.
func TestNextTrialAfterFirstShare(t *testing.T) {
	for _, tt := range []struct {
		name        string
		before      []string // events after the trial, each half a second apart
		least, most time.Duration
	}{
		{"at the first share", []string{"fail"}, 2 * time.Second, 3 * time.Second},
		{"after a successful step", []string{"ok 5", "fail"}, 8 * time.Second, 12 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := defaultBreaker()
			r := newBreakerRun(t, cfg)
			for range 4000 {
				r.advance(r.now.Add(5 * time.Millisecond))
				r.do("ok")
			}
			r.do("trip")
			r.advance(r.b.Until.Add(tickEvery))
			r.do("ok")
			for _, event := range tt.before {
				r.do(event)
				r.advance(r.now.Add(cfg.Step))
			}
			if r.b.State == Recovering {
				p, _ := r.b.Acquire(r.now, cfg)
				r.b.Report(r.now, cfg, p, Result{Failed: true})
				r.b.MovedOn(r.now, cfg, p, Moved{On: true, After: time.Millisecond, Rate: 200})
			}
			if left := r.b.Until.Sub(r.now); r.b.State != Open || left < tt.least || left > tt.most {
				t.Errorf("%v for %v, want open for %v to %v", r.b.State, left, tt.least, tt.most)
			}
		})
	}
}
