// Package quota keeps an endpoint within its provider's limits.
package quota

import (
	"math"
	"time"
)

// A Limit allows Amount requests or tokens in each span of Per.
type Limit struct {
	Of     Unit
	Amount int64         // at least 1
	Per    time.Duration // positive
	// Burst is how many an endpoint may use at once after it has rested. 0 stands for a
	// fiftieth of Amount, at least 1, and a lower rate, so that no span of Per has more than
	// Amount. With another Burst, a span of Per may have Amount plus Burst.
	Burst int64
}

// A Unit is what a limit counts.
type Unit uint8

const (
	Requests Unit = iota
	Tokens
)

var units = [...]string{"requests", "tokens"}

// String returns the word for u in options.
func (u Unit) String() string { return units[u] }

// ParseUnit returns the unit for a word in options.
func ParseUnit(word string) (Unit, bool) {
	for i, w := range units {
		if w == word {
			return Unit(i), true
		}
	}
	return 0, false
}

// A Rate is a limit ready for use. It is read-only.
type Rate struct {
	Limit
	interval float64 // in which one unit grows back, in nanoseconds
	burst    int64
	part     int64 // of a history, in nanoseconds
}

// Rate prepares the limit for use.
func (l Limit) Rate() Rate {
	r := Rate{Limit: l, burst: l.Burst, part: max(1, int64(l.Per)/parts)}
	amount := l.Amount
	if r.burst == 0 {
		r.burst = max(1, l.Amount/50)
		amount -= r.burst - 1
	}
	r.interval = float64(l.Per) / float64(amount)
	return r
}

// Part returns the rate of one of n buckets that share the limit. part is above 0 and at most 1.
// Buckets whose parts add up to 1 keep the limit together, and its burst: Part splits half of the
// burst like the amount and half evenly, because a small part with a burst of 1 would lose much of
// what grows back. If Burst is 0, Part splits twice the default burst: buckets that have all rested
// may use a fiftieth of Amount more, once.
func (r Rate) Part(part float64, n int) Rate {
	burst := float64(r.burst) * min(1, part+1/float64(n))
	if r.Burst > 0 {
		burst = float64(r.burst) * (part + 1/float64(n)) / 2
	}
	r.Amount = max(1, int64(float64(r.Amount)*part))
	r.interval /= part
	r.burst = max(1, int64(math.Ceil(burst-1e-9)))
	return r
}

// A Bucket counts how much of a limit is in use. It is the generic cell rate algorithm (GCRA), whose
// state is one time, plus a second time for units that were given back late. The zero value has its
// whole burst. It is not safe for concurrent use. Its clock may jump back: units that have grown back
// stay.
type Bucket struct {
	full  int64 // when all used units have grown back, in nanoseconds since the epoch
	spare int64 // units given back after they had grown back, as the time in which they grow
	low   int64 // the time of the latest use before which less than one unit was in use
	used  history
}

// Take uses n units if they are available, and reports whether they were. More units than the burst
// are available once all have grown back; later units then wait longer.
func (b *Bucket) Take(now time.Time, r *Rate, n int64) bool {
	at := now.UnixNano()
	if !b.Has(at, r, n) {
		return false
	}
	b.use(at, r, n)
	return true
}

// Has reports whether n units are available at a time, in nanoseconds since the epoch.
func (b *Bucket) Has(at int64, r *Rate, n int64) bool { return at >= b.ready(r, n) }

// Use uses n units, at least 0, even if they are not available, at a time in nanoseconds since the
// epoch.
func (b *Bucket) Use(at int64, r *Rate, n int64) { b.use(at, r, n) }

func (b *Bucket) use(at int64, r *Rate, n int64) {
	b.rest(at)
	if float64(b.full-at) < r.interval {
		b.low = at
	}
	grows := r.grows(n)
	paid := min(b.spare, grows)
	b.spare -= paid
	b.full += grows - paid
	b.used.add(at, r.part, n)
}

// rest lets the bucket grow until a time. Neither unused units nor units that were given back are
// saved up while the bucket is idle.
func (b *Bucket) rest(at int64) {
	if idle := at - b.full; idle > 0 {
		b.full, b.spare = at, max(0, b.spare-idle)
	}
}

// Correct uses n more units for a Use at the time taken or, if n is negative, gives some of its units
// back. Units given back are available at once, even if they have grown back since, up to a quarter
// of Amount.
func (b *Bucket) Correct(now time.Time, r *Rate, taken time.Time, n int64) {
	at := now.UnixNano()
	if n >= 0 {
		b.use(at, r, n)
		return
	}
	b.rest(at)
	if b.full += r.grows(n); b.full < at {
		b.spare = min(b.spare+at-b.full, int64(r.Per)/4)
		b.full = at
	}
	b.used.correct(at, taken.UnixNano(), r.part, n)
}

// GiveBack undoes a Use of one unit at the time taken, which was not needed. It gives nothing back if the unit may have grown
// back before a later Use. So no span of Per has more other units than it could have without that Use; if many units are
// given back late, by a few.
func (b *Bucket) GiveBack(now time.Time, r *Rate, taken time.Time) {
	at := now.UnixNano()
	b.used.correct(at, taken.UnixNano(), r.part, -1)
	b.rest(at)
	if b.low <= taken.UnixNano() {
		b.full = max(at, b.full-r.grows(1))
	}
}

// Changed adapts the bucket to another part of its limit. Used units grow back at the new rate:
// within Per, unless they would have taken longer at the old one.
func (b *Bucket) Changed(now time.Time, from, to *Rate) {
	at, longer := now.UnixNano(), to.interval/from.interval
	if debt := b.full - at; debt > 0 {
		b.full = at + min(int64(float64(debt)*longer), max(debt, int64(to.Per)))
	}
	b.spare = min(int64(float64(b.spare)*longer), int64(to.Per)/4)
}

// Ready returns when n units will be available; now if they are.
func (b *Bucket) Ready(now time.Time, r *Rate, n int64) time.Time {
	return now.Add(time.Duration(max(0, b.ready(r, n)-now.UnixNano())))
}

func (b *Bucket) ready(r *Rate, n int64) int64 {
	return b.full - b.spare - r.grows(max(0, r.burst-n))
}

// Left returns Amount minus the units used within the last Per, at least 0. It is for display only,
// and exact to a twelfth of Per: Take uses the rate.
func (b *Bucket) Left(now time.Time, r *Rate) int64 {
	return max(0, r.Amount-b.used.sum(now.UnixNano(), r.part))
}

// grows returns the time in which n units grow back, in nanoseconds; at most a year.
func (r *Rate) grows(n int64) int64 {
	const year = float64(365 * 24 * time.Hour)
	grows := r.interval * float64(n)
	if grows > year || grows < -year {
		return int64(math.Copysign(year, grows))
	}
	return int64(grows)
}

const parts = 12

// A history counts the units of a span of time in parts.
type history struct {
	counts [parts]int64
	latest int64 // the current part: parts since the epoch
	ends   int64 // when it ends, in nanoseconds since the epoch
	at     int   // its index in counts
}

// add counts n units, at least 0, now.
func (h *history) add(now, part, n int64) {
	if now >= h.ends {
		h.turn(now, part)
	}
	h.counts[h.at] += n
}

// correct adds n units, or takes them off if n is negative, at a time that is now or earlier. It
// ignores times before the history.
func (h *history) correct(now, at, part, n int64) {
	h.turn(now, part)
	back := h.latest - at/part
	if back >= parts {
		return
	}
	count := &h.counts[uint64(h.latest-max(0, back))%parts]
	*count = max(0, *count+n)
}

func (h *history) sum(at, part int64) (sum int64) {
	h.turn(at, part)
	for _, n := range h.counts {
		sum += n
	}
	return sum
}

// turn empties the parts that have passed. After a jump of the clock back, the latest part stays
// current.
func (h *history) turn(now, part int64) {
	to := now / part
	if to-h.latest >= parts {
		h.counts, h.latest = [parts]int64{}, to
	}
	for h.latest < to {
		h.latest++
		h.counts[uint64(h.latest)%parts] = 0
	}
	h.ends, h.at = (h.latest+1)*part, int(uint64(h.latest)%parts)
}
