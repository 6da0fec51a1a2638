package slowness

import "time"

const (
	// slowNearly times as many slow attempts as answers in time show that an endpoint
	// hardly serves anybody.
	slowNearly = 12
	// Where others are served in time, half of slowMostly times as many must be slow, of
	// slowAmong attempts, so that a third of slow requests hardly ever looks like that.
	slowMostly, slowAmong = 3, 40
	// slowLasts is how long slowness must last there.
	slowLasts = time.Second
	// marksApart is how long after a mark the next one is due, at least.
	marksApart = 20 * time.Millisecond
	// marksAhead is how far off the next mark can be, unless the clock has jumped back.
	marksAhead = time.Minute
)

// An episode is what happened at an endpoint since the first of its latest attempts
// that are slow began. Slow requests of one client come in a row as those of an
// endpoint that hangs do. But while they wait, others are answered in time.
//
// The zero value is one that has not begun. It belongs to a slowness.
type episode struct {
	began  time.Time     // the earliest of the slow attempts; zero: none
	after  time.Duration // the shortest time after which one of them was taken to be slow; 0: the limit
	slow   uint64        // attempts, ever
	inTime uint64        // answers, ever

	marks  [64]episodeMark // of the last four limits or so, taken as attempts begin
	newest int
	next   time.Time // when the next mark is due
}

// episodeMark is what had been counted at a time.
type episodeMark struct {
	at           time.Time
	slow, inTime uint64
}

// SlowOne takes an attempt that is slow.
func (e *episode) SlowOne(began time.Time) {
	e.slow++
	if e.began.IsZero() || began.Before(e.began) {
		e.began = began
	}
}

// SlowAfter is SlowOne for an attempt that has ended, after a time that may be below the limit.
func (e *episode) SlowAfter(began time.Time, took time.Duration) {
	e.SlowOne(began)
	if e.after == 0 || took < e.after {
		e.after = took
	}
}

// end forgets the slow attempts.
func (e *episode) end() { e.began, e.after = time.Time{}, 0 }

// Due tells whether the next mark is.
func (e *episode) Due(now time.Time) bool {
	return !now.Before(e.next) || e.next.Sub(now) > marksAhead
}

// Mark notes what has been counted by now; limit is when an attempt is slow.
func (e *episode) Mark(now time.Time, limit time.Duration) {
	e.next = now.Add(max(marksApart, limit/16))
	e.newest = (e.newest + 1) % len(e.marks)
	e.marks[e.newest] = episodeMark{now, e.slow, e.inTime}
}

// firstSince is the first mark at a time or after it, or what is counted now.
func (e *episode) firstSince(at time.Time) episodeMark {
	first := episodeMark{slow: e.slow, inTime: e.inTime}
	for i := range e.marks {
		m := e.marks[(e.newest+len(e.marks)-i)%len(e.marks)]
		if m.at.IsZero() || m.at.Before(at) {
			break
		}
		first = m
	}
	return first
}

// IsTheEndpoints tells whether slow attempts are the endpoint's doing rather than
// their requests' own: hardly anything is answered in time beside them, or less than
// that for a while. Limit is when an attempt is slow, so that one which began
// at a time counts as slow a limit later.
func (e *episode) IsTheEndpoints(now time.Time, limit time.Duration) bool {
	if e.began.IsZero() {
		return true
	}
	if e.after > 0 {
		limit = min(limit, e.after)
	}
	from := e.began
	if oldest := e.firstSince(time.Time{}).at; oldest.After(from) {
		from = oldest
	}
	served := e.inTime - e.firstSince(from).inTime
	slow := e.slow
	if from == e.began {
		slow -= e.lastBefore(from.Add(limit))
	} else {
		slow -= e.firstSince(from.Add(limit)).slow
	}
	if slow >= slowNearly*served {
		return true
	}
	return slow+served >= slowAmong && 2*slow >= slowMostly*served && now.Sub(e.began) >= slowLasts
}

// lastBefore is how many attempts had been slow at the latest mark before a time.
func (e *episode) lastBefore(at time.Time) uint64 {
	for i := range e.marks {
		m := e.marks[(e.newest+len(e.marks)-i)%len(e.marks)]
		if m.at.IsZero() {
			break
		}
		if m.at.Before(at) {
			return m.slow
		}
	}
	return 0
}
