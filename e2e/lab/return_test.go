package lab

import (
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A comeback is the course of one fault at the primary of three endpoints, at 200 calls a second. The
// primary works for 3 s, fails for 8 s, then works again.
type comeback struct {
	back     time.Duration // from the heal to the first second of which the primary answers 90 %
	during   int           // calls at the primary while it is ill
	refused  int           // of those that came after the heal
	failures int           // that clients saw
}

const comebackOptions = `failover {
	name lab
	endpoint http://one.test
	endpoint http://two.test
	endpoint http://three.test
	timeout 1s
	commit complete
	retry {
		methods any
	}
	health {
		uri /health
		interval 1s
		fast_interval 500ms
		timeout 1s
	}
}`

// play runs a fault at the primary, from its beginning to after its end.
func playComeback(t *testing.T, ill func() roundTrip, healed func() roundTrip) (c comeback) {
	l := openLab(t, comebackOptions)
	defer l.close()
	var mu sync.Mutex
	var answered []time.Time // by the primary
	calls, refused := 0, 0
	record := func(f roundTrip) roundTrip {
		return func(r *http.Request) (*http.Response, error) {
			resp, err := f(r)
			if r.URL.Path == "/health" {
				return resp, err
			}
			mu.Lock()
			defer mu.Unlock()
			calls++
			if err == nil && resp.StatusCode == http.StatusOK {
				answered = append(answered, time.Now())
			} else {
				refused++
			}
			return resp, err
		}
	}
	well := after(2*time.Millisecond, http.StatusOK)
	l.on("two.test:80", well)
	l.on("three.test:80", well)
	l.on("one.test:80", record(well))
	const rate = 200
	s := l.load(rate, 3*time.Second)
	c.failures += s.failed
	before := calls
	l.on("one.test:80", record(ill()))
	s = l.load(rate, 8*time.Second+time.Duration(rand.Int64N(int64(time.Second))))
	c.failures += s.failed
	l.on("one.test:80", record(healed()))
	heal := time.Now()
	c.during = calls - before
	mu.Lock()
	refused, answered = 0, nil
	mu.Unlock()
	s = l.load(rate, 20*time.Second)
	c.failures += s.failed
	c.refused = refused
	c.back = 20 * time.Second
	for i := range answered {
		if j := i + rate*9/10 - 1; j < len(answered) && answered[j].Sub(answered[i]) <= time.Second {
			c.back = answered[i].Sub(heal)
			break
		}
	}
	return c
}

func failsSometimes(part float64) roundTrip {
	good, bad := after(2*time.Millisecond, http.StatusOK), after(0, http.StatusInternalServerError)
	return func(r *http.Request) (*http.Response, error) {
		if r.URL.Path != "/health" && rand.Float64() < part {
			return bad(r)
		}
		return good(r)
	}
}

func cold(least, growth, most float64) roundTrip {
	began := time.Now()
	last, tokens := began, 1.0
	var mu sync.Mutex
	good, bad := after(2*time.Millisecond, http.StatusOK), after(0, http.StatusServiceUnavailable)
	return func(r *http.Request) (*http.Response, error) {
		if r.URL.Path == "/health" {
			return good(r)
		}
		mu.Lock()
		now := time.Now()
		rate := min(most, least+growth*now.Sub(began).Seconds())
		tokens = min(rate/4, tokens+rate*now.Sub(last).Seconds())
		last = now
		ok := tokens >= 1
		if ok {
			tokens--
		}
		mu.Unlock()
		if ok {
			return good(r)
		}
		return bad(r)
	}
}

func always(f roundTrip) func() roundTrip { return func() roundTrip { return f } }

// TestComebacks checks that a primary that works again has its traffic back soon.
func TestComebacks(t *testing.T) {
	const times = 5
	well := after(2*time.Millisecond, http.StatusOK)
	for _, tt := range []struct {
		name        string
		ill, healed func() roundTrip
		median      time.Duration // at most
		back        time.Duration // at most, each time
		refused     int           // at most, all times
	}{
		// A second, mostly; but by chance so many fail that the breaker opens, and checks do not see that.
		{"30 % of the calls fail", always(failsSometimes(0.3)), always(well), 4 * time.Second, 12 * time.Second, 0},
		// Two checks, and steps that at most double the share; by chance one begins again.
		{"350 times slower", always(after(700*time.Millisecond, 200)), always(well), 4500 * time.Millisecond, 12 * time.Second, 0},
		// It has the capacity for 90 % of the calls after 4.3 s; a recovery that is refused too much begins again.
		{"cold", always(refusesConnections), func() roundTrip { return cold(10, 40, 400) }, 15 * time.Second, 15 * time.Second, 150},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var back []time.Duration
			during, refused := 0, 0
			for range times {
				synctest.Test(t, func(t *testing.T) {
					c := playComeback(t, tt.ill, tt.healed)
					back = append(back, c.back)
					during += c.during
					refused += c.refused
					if c.failures > 0 {
						t.Errorf("clients saw %d failures", c.failures)
					}
				})
			}
			slices.Sort(back)
			median, worst := back[times/2], back[times-1]
			t.Logf("back after %v, at worst %v; %d calls at the ill primary, %.1f refused after the heal", median, worst, during/times, float64(refused)/times)
			if median > tt.median || worst > tt.back {
				t.Errorf("back after %v, at worst %v, want at most %v and %v", median, worst, tt.median, tt.back)
			}
			if refused > tt.refused {
				t.Errorf("%d calls refused after the heal, want at most %d", refused, tt.refused)
			}
		})
	}
}

// TestReturns checks that the primary has its traffic back soon after each fault, with few attempts while it
// lasts, at 5, 20 and 200 calls a second.
//
// Where checks do not see the fault, a trial must come first. At most 1 in 50 calls is a failed trial, 1 in 200
// a slow one, and one takes at most 1/25 of the time until the next: 2.5 s apart at best, and 10 s (jitter adds a fifth)
// if calls are few, if trials take long or if no connection is made. Then the share grows from 5 %: by 1 % for each success at 200 calls a second, 2 %
// at 20 (1.5 % where checks saw the fault) and 4 % at 5. So at 20 it needs about 50 successes, the first of which comes after a second.
func TestReturns(t *testing.T) {
	const lasts = 20 * time.Second
	rates := [...]int{5, 20, 200}
	for _, want := range []struct {
		fault string
		back  [len(rates)]float64 // seconds at most, mostly; 0: not played
		ill   int                 // most attempts at the ill primary in 10 s; 0: any number
	}{
		{"crash, seen", [...]float64{7.5, 8.5, 3}, 3},
		{"hang, seen", [...]float64{7.5, 8.5, 4}, 3},
		{"503, seen", [...]float64{7.5, 8.5, 3}, 3},
		{"350 times slower, seen", [...]float64{16, 12, 4.5}, 8},
		// Its breaker does not open, mostly.
		{"30 % 500", [...]float64{9, 5, 3}, 0},
		// A trial may succeed by chance, and a share that fails makes the next return slower.
		{"60 % 500", [...]float64{20, 20, 10}, 0},
		{"POST 503", [...]float64{18, 20, 10}, 0},
		{"503", [...]float64{16, 8.5, 6}, 8},
		{"POST 503 by scope", [...]float64{24, 15, 8}, 8}, // half of the calls
		{"error in a 200", [...]float64{16, 8.5, 6}, 8},
		{"cut bodies", [...]float64{16, 8.5, 6}, 8},
		{"350 times slower", [...]float64{18, 16, 7}, 8},
		{"slow streams", [...]float64{18, 18, 0}, 10},
		{"stalled bodies", [...]float64{18, 19, 17}, 6},
		{"crash", [...]float64{18, 18, 16}, 6},
		{"hang", [...]float64{18, 18, 7}, 8},
	} {
		f := unseenFaults[slices.IndexFunc(unseenFaults, func(f unseen) bool { return f.name == want.fault })]
		for i, most := range want.back {
			if most == 0 {
				continue
			}
			late := 0
			var back []time.Duration
			// Chance makes some returns late: most must be in time, of one, three or five.
			for plays := 1; len(back) < plays && plays <= 5; plays = 2*late + 1 {
				synctest.Test(t, func(t *testing.T) {
					r := f.play(t, rates[i], true, lasts)
					back = append(back, r.back)
					if r.back.Seconds() > most {
						late++
					}
					if r.failed > 0 {
						t.Errorf("%s at %d calls a second: clients saw %d failures", f.name, rates[i], r.failed)
					}
					if want.ill > 0 && r.ill > want.ill {
						t.Errorf("%s at %d calls a second: %d attempts at the ill primary in 10 s, want at most %d", f.name, rates[i], r.ill, want.ill)
					}
				})
			}
			t.Logf("%s at %d calls a second: back after %v", f.name, rates[i], back)
			if late > 2 {
				t.Errorf("%s at %d calls a second: back after %v, want most within %v s", f.name, rates[i], back, most)
			}
		}
	}
}

// TestNoQuickReturnsWhileFlapping checks that a primary that is down for 2 s and up for 1 s, again and
// again, gets little of its traffic while it is up, although its checks then pass.
func TestNoQuickReturnsWhileFlapping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := openLab(t, comebackOptions)
		defer l.close()
		began := time.Now()
		const period, well = 3 * time.Second, 2 * time.Second
		const cycles, rate = 20, 100
		var mu sync.Mutex
		var served [cycles]int
		failed := 0
		good := after(2*time.Millisecond, http.StatusOK)
		l.on("two.test:80", good)
		l.on("three.test:80", good)
		l.on("one.test:80", func(r *http.Request) (*http.Response, error) {
			at := time.Since(began)
			down := at%period < well
			if r.URL.Path != "/health" {
				mu.Lock()
				if down {
					failed++
				} else {
					served[min(cycles-1, at/period)]++
				}
				mu.Unlock()
			}
			if down {
				return refusesConnections(r)
			}
			return good(r)
		})
		s := l.load(rate, cycles*period)
		if s.failed > 0 {
			t.Errorf("clients saw %d failures", s.failed)
		}
		t.Logf("calls in each second that it was well: %v; %d while it was down", served, failed)
		all, many := 0, 0
		for i, n := range served[1:] {
			all += n
			if n > rate/5 { // rare: it takes a trial that begins with the second
				many++
			}
			if n > rate*2/5 {
				t.Errorf("return %d: %d of %d calls within a second", i+2, n, rate)
			}
		}
		if many > 1 {
			t.Errorf("%d returns with more than a fifth of the calls", many)
		}
		if all > cycles*rate*3/100 {
			t.Errorf("%d of %d calls while it was up", all, cycles*rate)
		}
		if failed > 4*cycles {
			t.Errorf("%d calls while it was down %d times", failed, cycles)
		}
	})
}
