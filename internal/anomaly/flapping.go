package anomaly

import "time"

const (
	flapWindow = 5 * time.Minute
	flapLimit  = 4             // more changes than this start flapping
	flapCalm   = flapLimit / 2 // this many changes or fewer end it
	flapKept   = 2 * flapLimit
)

// flapping counts changes of state in a sliding window. If the clock jumps back, changes
// that now lie in the future move to now, so they leave the window within flapWindow. The
// zero value has no changes.
type flapping struct {
	at [flapKept]time.Time // latest changes, oldest first
	n  int8                // number of changes in at
	on bool
}

// add adds a change of state at now.
func (f *flapping) add(dst []Change, now time.Time) []Change {
	dst = f.expire(dst, now)
	if f.n == flapKept {
		copy(f.at[:], f.at[1:])
		f.n--
	}
	f.at[f.n] = now
	f.n++
	if !f.on && f.n > flapLimit {
		f.on = true
		dst = append(dst, f.change(now))
	}
	return dst
}

// expire drops changes that have left the window, and ends flapping if few enough remain.
func (f *flapping) expire(dst []Change, now time.Time) []Change {
	old := int(f.n) - f.count(now)
	copy(f.at[:], f.at[old:f.n])
	f.n -= int8(old)
	for i := range f.at[:f.n] {
		if f.at[i].After(now) {
			f.at[i] = now
		}
	}
	if f.on && f.n <= flapCalm {
		f.on = false
		dst = append(dst, f.change(now))
	}
	return dst
}

func (f *flapping) active(now time.Time) bool { return f.on && f.count(now) > flapCalm }

// count returns the number of changes in the window. They are the last ones of at.
func (f *flapping) count(now time.Time) int {
	for i, at := range f.at[:f.n] {
		if now.Sub(at) < flapWindow {
			return int(f.n) - i
		}
	}
	return 0
}

func (f *flapping) change(now time.Time) Change {
	return Change{Kind: Flapping, Began: f.on, Expected: flapLimit, Seen: float64(f.n), At: now}
}
