package endpoint

import "time"

// How uploads that wait for their clients count for the endpoint's limit.

const (
	// An attempt is vacant, which means that it fills no slot of the endpoint's max_requests, if it
	// waited for its client for pausedPart of the last pausedAfter.
	pausedAfter = time.Second
	pausedPart  = 0.9
	// pausedSoon replaces pausedAfter if the endpoint is full. relieveEvery is the shortest time
	// between two looks for vacant attempts then.
	pausedSoon   = 100 * time.Millisecond
	relieveEvery = 10 * time.Millisecond
)

// pace is the progress of an upload, as far as the watcher knows. The state's mutex guards it.
type pace struct {
	at     time.Time     // time of the latest look, or of the attempt's start
	had    time.Duration // HadFor at that time
	vacant bool          // the attempt fills no slot
}

// paceOf returns the pace of an attempt's upload, and whether it was called for the attempt before.
// The first call makes the pace.
func (t *Ticket) paceOf(f Watched) (p *pace, seen bool) {
	if t.rare == nil {
		t.rare = new(Rare)
	}
	if seen = t.rare.paced; !seen {
		t.rare.paced, t.rare.pace = true, pace{at: f.StartedAt()}
	}
	return &t.rare.pace, seen
}

// isVacant reports whether the attempt fills no slot.
func (t *Ticket) isVacant() bool { return t.rare != nil && t.rare.pace.vacant }

// paceLocked makes an attempt that waits for its client vacant, until the client sends again. The
// endpoint may exceed its limit until the watcher looks again, at most 50 ms later.
func (s *State) paceLocked(f Watched, now time.Time) {
	if !f.Uploads() {
		return
	}
	t := f.own()
	if f.FirstByte() > 0 { // the endpoint is at work
		if t.isVacant() {
			s.vacateLocked(&t.rare.pace, false)
		}
		return
	}
	p, seen := t.paceOf(f)
	if !seen {
		return
	}
	had := hadFor(f, now)
	switch took := now.Sub(p.at); {
	case took >= pausedAfter:
		s.vacateLocked(p, f.WaitsForClient() && float64(had-p.had) <= (1-pausedPart)*float64(took))
		p.at, p.had = now, had
	case p.vacant && float64(had-p.had) > (1-pausedPart)*float64(pausedAfter):
		s.vacateLocked(p, false)
	}
}

// An Uploader is an attempt that measures its whole time at the endpoint. WaitedFor starts again
// whenever the endpoint takes more.
type Uploader interface {
	// HadFor returns how long the endpoint has had the attempt, without the time spent waiting
	// for the client.
	HadFor(now time.Time) time.Duration
}

// hadFor returns HadFor of an Uploader, else WaitedFor.
func hadFor(f Watched, now time.Time) time.Duration {
	if u, ok := f.(Uploader); ok {
		return u.HadFor(now)
	}
	return f.WaitedFor(now)
}

// relieveLocked makes attempts that wait for their clients vacant, earlier than the watcher does,
// because the endpoint is full. It reports whether there is room now.
func (s *State) relieveLocked(b *Bounds, now time.Time) bool {
	if since := now.Sub(s.relieved); since >= 0 && since < relieveEvery {
		return false
	}
	s.relieved = now
	for f := range s.inFlight.all() {
		t := f.own()
		if !f.Uploads() || f.FirstByte() > 0 || !f.WaitsForClient() || t.isVacant() {
			continue
		}
		took := now.Sub(f.StartedAt())
		if took < pausedSoon || float64(hadFor(f, now)) > (1-pausedPart)*float64(took) {
			continue
		}
		p, _ := t.paceOf(f)
		s.vacateLocked(p, true)
	}
	return !s.fullLocked(b)
}

func (s *State) vacateLocked(p *pace, vacant bool) {
	switch {
	case vacant && !p.vacant:
		s.vacant++
	case !vacant && p.vacant:
		s.vacant--
	}
	p.vacant = vacant
}

// fullLocked reports whether the endpoint has as many attempts in flight as its limit allows.
// Vacant attempts do not count.
func (s *State) fullLocked(b *Bounds) bool {
	return b != nil && b.AtOnce > 0 && s.Busy.Load()-int64(s.vacant) >= int64(b.AtOnce)
}

// Full reports whether the endpoint has as many attempts in flight as its limit allows.
func (s *State) Full(b *Bounds) bool {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	return s.fullLocked(b)
}
