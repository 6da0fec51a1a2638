package pool

import (
	"testing"
	"time"
)

func TestFingerprints(t *testing.T) {
	const address, coarse = 9, 1 // of all requests of the client that fails
	bad := Fingerprint{address, coarse, 2}
	now := time.Now()
	held := false
	var f Fingerprints
	admitted := func(over time.Duration, each time.Duration, next func(i uint64) Fingerprint, served bool) (n int) {
		for i, end := uint64(0), now.Add(over); now.Before(end); i, now = i+1, now.Add(each) {
			f.Failed(bad, now)
			if p := next(i); f.Admits(p, now, held) {
				n++
				if served {
					f.Served(p, now)
				} else {
					f.Failed(p, now)
				}
			}
		}
		return n
	}
	for _, tt := range []struct {
		name     string
		next     func(i uint64) Fingerprint
		served   bool
		from, to int // of 1,000 in 10 s
	}{
		{"the same request", func(uint64) Fingerprint { return bad }, false, 0, 0},
		{"another request", func(uint64) Fingerprint { return Fingerprint{8, 3, 4} }, true, 1000, 1000},
		{"another request that fails", func(uint64) Fingerprint { return Fingerprint{7, 5, 6} }, false, 4, 6},
		{"other requests", func(i uint64) Fingerprint { return Fingerprint{100000 + i, 1000 + i, 5000 + i} }, true, 1000, 1000},
		{"other requests that fail", func(i uint64) Fingerprint { return Fingerprint{110000 + i, 10000 + i, 15000 + i} }, false, 100, 121},
		{"another body each", func(i uint64) Fingerprint { return Fingerprint{address, coarse, 20000 + i} }, true, 1000, 1000},
		{"another body each that fails", func(i uint64) Fingerprint { return Fingerprint{address, coarse, 30000 + i} }, false, 50, 61},
	} {
		t.Run(tt.name, func(t *testing.T) {
			now = now.Add(time.Minute)
			if n := admitted(10*time.Second, 10*time.Millisecond, tt.next, tt.served); n < tt.from || n > tt.to {
				t.Errorf("%d of 1,000 were let through, want %d to %d", n, tt.from, tt.to)
			}
		})
	}
	now = now.Add(time.Minute)
	if n := admitted(10*time.Second, 10*time.Millisecond, func(i uint64) Fingerprint { return Fingerprint{address, 80000 + i, 90000 + i} }, false); n < 50 || n > 71 {
		t.Errorf("%d other requests from the failing address were let through, want 50 to 71", n)
	}
	if !f.Admits(Fingerprint{6, 3000, 3001}, now, held) {
		t.Error("requests from one address use up what other addresses may send")
	}
	f.Failed(Fingerprint{5, 3100, 3101}, now)
	if !f.Admits(Fingerprint{5, 3200, 3201}, now, held) {
		t.Error("requests from one address that failed use up what another may send")
	}
	held, now = true, now.Add(time.Minute)
	if n := admitted(10*time.Second, 10*time.Millisecond, func(i uint64) Fingerprint { return Fingerprint{120000 + i, 60000 + i, 70000 + i} }, false); n > 12 {
		t.Errorf("%d other requests that fail were let through during a cooldown", n)
	}
	if !f.Admits(bad, now.Add(printFor), false) {
		t.Error("a failure of long ago counts")
	}
	for i := range uint64(3 * mostPrints) {
		f.Failed(Fingerprint{130000 + i, 40000 + i, 50000 + i}, now)
	}
	if n := len(f.prints) + len(f.older); n > mostPrints {
		t.Errorf("%d fingerprints are kept", n)
	}
}
