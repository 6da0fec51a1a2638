package endpoint

import (
	"math/bits"
	"time"

	"github.com/apifailover/caddy-failover/internal/event"
	"github.com/apifailover/caddy-failover/internal/outcome"
)

// Calls may move on from answers of an endpoint that is well: it does not have what they want.
// Where that is so of half of its last calls, it is passed over for a while. That is soft: it
// takes no last endpoint out, and a call that nobody else answers may go there. A call is only
// counted where another endpoint has answered it: what is refused everywhere says nothing.

const (
	passingOf    = 20               // calls that are looked back on
	passingFor   = 30 * time.Second // the first time
	passingMost  = 5 * time.Minute
	passingTried = 30 * time.Second // how long a trial waits for a call that can move on
	// ReasonPassedOver is the reason of a hold of an endpoint that is passed over.
	ReasonPassedOver = "next_on"
)

// passing is whether an endpoint is passed over. The zero value is that of one that is not.
type passing struct {
	calls uint32 // the last passingOf, the newest at bit 0; set: others answered it instead
	n     int    // how many are known
	until time.Time
	step  time.Duration // the latest period
	trial *Ticket       // of the call that shows whether it is over
	since time.Time     // when the trial began
	shown bool          // routing knows that a trial is due
}

// over tells whether the endpoint is passed over.
func (p *passing) over() bool { return !p.until.IsZero() }

// due tells whether a call may try the endpoint.
func (p *passing) due(now time.Time) bool {
	return p.over() && !now.Before(p.until) && (p.trial == nil || now.Sub(p.since) > passingMost) // which is lost
}

// add counts a call, and tells whether the endpoint is to be passed over.
func (p *passing) add(moved bool) bool {
	p.calls = p.calls << 1 & (1<<passingOf - 1)
	if moved {
		p.calls |= 1
	}
	p.n = min(p.n+1, passingOf)
	return moved && p.n == passingOf && 2*bits.OnesCount32(p.calls) >= passingOf
}

// answeredLocked counts a call that the endpoint has answered itself.
func (s *State) answeredLocked(t *Ticket) (changed bool) {
	p := &s.passing
	if p.over() {
		if p.trial != t {
			return false // it went there for want of others
		}
		p.calls, p.n, p.until, p.trial = 0, 0, time.Time{}, nil
		return true
	}
	if p.add(false); p.n == passingOf && p.calls == 0 {
		p.step = 0
	}
	return false
}

// PassedOver counts a call that moved on from the endpoint's answer, and was answered by another.
func (s *State) PassedOver(t *Ticket, now time.Time) {
	s.tell(s.update(func() bool { return s.passedOverLocked(t, now) }))
}

func (s *State) passedOverLocked(t *Ticket, now time.Time) (changed bool) {
	p := &s.passing
	if p.over() && p.trial != t || !p.over() && !p.add(true) {
		return false
	}
	p.trial, p.shown = nil, false
	p.step = min(passingMost, max(passingFor, 2*p.step))
	p.until = now.Add(p.step)
	s.news = append(s.news, event.Event{
		At:       now,
		Kind:     event.EndpointHeld,
		Endpoint: s.Name,
		Reason:   ReasonPassedOver,
		Details:  map[string]any{"until": p.until, "seconds": p.step.Seconds()},
	})
	return true
}

// trialOverLocked notes that an attempt has come to something. A trial that has not shown
// whether the endpoint is still to be passed over makes room for another.
func (s *State) trialOverLocked(t *Ticket, o outcome.Outcome) (changed bool) {
	if s.passing.trial != t || o == outcome.Success && t.MovedOn {
		return false
	}
	s.passing.trial = nil
	return true
}

// WantsPassingTrial tells whether a call may try an endpoint that is passed over; urgent, whether
// any may that cannot be sent elsewhere as well.
func (s *State) WantsPassingTrial(now time.Time) (wants, urgent bool) {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	return s.passing.due(now), now.Sub(s.passing.until) >= passingTried
}

// TrialUnanswered says that no other endpoint has answered the call of a trial either, which shows
// nothing.
func (s *State) TrialUnanswered(t *Ticket) {
	s.tell(s.update(func() bool {
		if s.passing.trial != t {
			return false
		}
		s.passing.trial = nil
		return true
	}))
}
