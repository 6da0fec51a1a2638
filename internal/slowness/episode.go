package slowness

import "time"

const (
	// An endpoint with slowNearly times as many slow attempts as responses in time serves
	// hardly any request in time.
	slowNearly = 12
	// If other requests are served in time, slow attempts must be at least slowMostly/2
	// times as many as those in time, among at least slowAmong attempts. A third of slow
	// requests hardly ever reaches that.
	slowMostly, slowAmong = 3, 40
	// slowLasts is how long the episode must then have lasted.
	slowLasts = time.Second
	// marksApart is the shortest time between two marks.
	marksApart = 20 * time.Millisecond
	// marksAhead is the longest wait for the next mark. A longer one means that the clock
	// has jumped back.
	marksAhead = time.Minute
)

// An episode counts an endpoint's attempts during a run of slow ones, from the start of the
// earliest. It tells an endpoint that hangs from a client that sends slow requests in a row:
// while the client's requests wait, other requests are served in time.
//
// The zero value has not started. It is part of a Detector.
type episode struct {
	began    time.Time     // start of the earliest slow attempt; zero if none
	shortest time.Duration // the shortest attempt that counted as slow once it had ended; 0 if none
	slow     uint64        // slow attempts, ever
	inTime   uint64        // responses in time, ever

	marks  [64]episodeMark // cover about the last four limits; set as attempts begin
	newest int
	next   time.Time // when the next mark is due
}

// episodeMark holds the counts at a time.
type episodeMark struct {
	at           time.Time
	slow, inTime uint64
}

// SlowOne counts a slow attempt that began at the given time.
func (e *episode) SlowOne(began time.Time) {
	e.slow++
	if e.began.IsZero() || began.Before(e.began) {
		e.began = began
	}
}

// SlowAfter is SlowOne for an attempt that has ended. took may be below the limit.
func (e *episode) SlowAfter(began time.Time, took time.Duration) {
	e.SlowOne(began)
	if e.shortest == 0 || took < e.shortest {
		e.shortest = took
	}
}

// end ends the episode.
func (e *episode) end() { e.began, e.shortest = time.Time{}, 0 }

// Due reports whether the next mark is due.
func (e *episode) Due(now time.Time) bool {
	return !now.Before(e.next) || e.next.Sub(now) > marksAhead
}

// Mark records the counts at now. limit is the time after which an attempt is slow.
func (e *episode) Mark(now time.Time, limit time.Duration) {
	e.next = now.Add(max(marksApart, limit/16))
	e.newest = (e.newest + 1) % len(e.marks)
	e.marks[e.newest] = episodeMark{now, e.slow, e.inTime}
}

// earliestMark returns the earliest mark at or after a time. If there is none, it returns the
// current counts.
func (e *episode) earliestMark(at time.Time) episodeMark {
	earliest := episodeMark{slow: e.slow, inTime: e.inTime}
	for i := range e.marks {
		m := e.marks[(e.newest+len(e.marks)-i)%len(e.marks)]
		if m.at.IsZero() || m.at.Before(at) {
			break
		}
		earliest = m
	}
	return earliest
}

// EndpointIsSlow reports whether the endpoint, not the requests themselves, causes the slow
// attempts. That is so if it serves hardly any request in time beside them, or if most attempts
// have been slow for a while. An attempt counts as slow one limit after it began.
func (e *episode) EndpointIsSlow(now time.Time, limit time.Duration) bool {
	if e.began.IsZero() {
		return true
	}
	if e.shortest > 0 {
		limit = min(limit, e.shortest)
	}
	from := e.began
	if oldest := e.earliestMark(time.Time{}).at; oldest.After(from) {
		from = oldest
	}
	served := e.inTime - e.earliestMark(from).inTime
	slow := e.slow
	if from == e.began {
		slow -= e.slowBefore(from.Add(limit))
	} else {
		slow -= e.earliestMark(from.Add(limit)).slow
	}
	if slow >= slowNearly*served {
		return true
	}
	return slow+served >= slowAmong && 2*slow >= slowMostly*served && now.Sub(e.began) >= slowLasts
}

// slowBefore returns the number of slow attempts at the latest mark before a time.
func (e *episode) slowBefore(at time.Time) uint64 {
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
