package endpoint

import "time"

// An upload can wait for its client: what the endpoint's limit and the watcher make of
// that.

const (
	// pausedAfter is how long an attempt waits for its client before it fills no slot of
	// the endpoint's max_requests: over that time the client had at least pausedPart.
	pausedAfter = time.Second
	pausedPart  = 0.9
	// pausedSoon is the same where the endpoint is full. It is looked for each relieveEvery
	// at most.
	pausedSoon   = 100 * time.Millisecond
	relieveEvery = 10 * time.Millisecond
)

// pace is how an upload has been coming, as far as the watcher knows. It is guarded by
// the state's mutex.
type pace struct {
	at     time.Time     // of the last look, or when the attempt began
	had    time.Duration // how long the endpoint had had the attempt by then
	vacant bool          // the attempt fills no slot
}

// paceLocked counts an attempt that waits for its client as filling no slot, and again
// as filling one when the client sends. Until the watcher has looked again, at most 50 ms, the
// endpoint may have more attempts than its limit.
func (s *State) paceLocked(f Watched, now time.Time) {
	if !f.Uploads() {
		return
	}
	t := f.own()
	p := t.pace
	if f.FirstByte() > 0 { // the endpoint is at work, whatever the client does
		if p != nil {
			s.vacateLocked(p, false)
		}
		return
	}
	if p == nil {
		t.pace = &pace{at: f.StartedAt()}
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

// An Uploader is an attempt that tells the time in which its endpoint takes the request
// from the time in which it is waited for.
type Uploader interface {
	// HadFor is how long the endpoint has had the attempt, less the time spent waiting for the
	// client.
	HadFor(now time.Time) time.Duration
}

func hadFor(f Watched, now time.Time) time.Duration {
	if u, ok := f.(Uploader); ok {
		return u.HadFor(now)
	}
	return f.WaitedFor(now)
}

// relieveLocked lets attempts that wait for their clients fill no slot of an endpoint that
// is full, before the watcher would, and tells whether there is room now.
func (s *State) relieveLocked(b *Bounds, now time.Time) bool {
	if since := now.Sub(s.relieved); since >= 0 && since < relieveEvery {
		return false
	}
	s.relieved = now
	for f := range s.inFlight.all() {
		t := f.own()
		if !f.Uploads() || f.FirstByte() > 0 || !f.WaitsForClient() || t.pace != nil && t.pace.vacant {
			continue
		}
		took := now.Sub(f.StartedAt())
		if took < pausedSoon || float64(hadFor(f, now)) > (1-pausedPart)*float64(took) {
			continue
		}
		if t.pace == nil {
			t.pace = &pace{at: f.StartedAt()}
		}
		s.vacateLocked(t.pace, true)
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

// fullLocked tells whether the endpoint has as many attempts in flight as it may. Attempts
// that wait for their clients are not counted.
func (s *State) fullLocked(b *Bounds) bool {
	return b != nil && b.AtOnce > 0 && s.Busy.Load()-int64(s.vacant) >= int64(b.AtOnce)
}

// Full tells whether the endpoint has as many attempts as it may.
func (s *State) Full(b *Bounds) bool {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	return s.fullLocked(b)
}
