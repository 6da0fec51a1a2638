package endpoint

import (
	"math/bits"
	"time"

	"github.com/apifailover/caddy-failover/internal/event"
	"github.com/apifailover/caddy-failover/internal/outcome"
)

// Calls may move on from good responses of an endpoint (next_on). If half of its latest calls do,
// calls pass the endpoint over for a while. It still serves calls that find no other endpoint. A
// call counts only if another endpoint has answered it: a request that is refused everywhere shows
// nothing about this endpoint.

const (
	passingOf    = 20               // how many of the latest calls count
	passingFor   = 30 * time.Second // the first period
	passingMost  = 5 * time.Minute  // the longest period
	passingTried = 30 * time.Second // how long a trial waits for a call that can move on
	// ReasonPassedOver is the reason of a hold of an endpoint that is passed over.
	ReasonPassedOver = "next_on"
)

// passing says whether calls pass an endpoint over. The zero value says that they do not.
type passing struct {
	calls uint32 // the latest passingOf, the newest at bit 0; a set bit: another endpoint answered it
	n     int    // how many calls are known
	until time.Time
	step  time.Duration // length of the latest period
	trial *Ticket       // the attempt that tries the endpoint again; nil: none
	since time.Time     // when the trial began
	shown bool          // the routing tables show that a trial is due
}

// over reports whether calls pass the endpoint over.
func (p *passing) over() bool { return !p.until.IsZero() }

// due reports whether a call may try the endpoint. A trial older than passingMost is lost.
func (p *passing) due(now time.Time) bool {
	return p.over() && !now.Before(p.until) && (p.trial == nil || now.Sub(p.since) > passingMost)
}

// add counts a call, and reports whether calls should pass the endpoint over.
func (p *passing) add(moved bool) bool {
	p.calls = p.calls << 1 & (1<<passingOf - 1)
	if moved {
		p.calls |= 1
	}
	p.n = min(p.n+1, passingOf)
	return moved && p.n == passingOf && 2*bits.OnesCount32(p.calls) >= passingOf
}

// answered counts a call that did not move on from the endpoint's response.
func (c *condition) answered(t *Ticket) (changed bool) {
	p := &c.passing
	if p.over() {
		if p.trial != t {
			return false // the call found no other endpoint
		}
		p.calls, p.n, p.until, p.trial = 0, 0, time.Time{}, nil
		return true
	}
	if p.add(false); p.n == passingOf && p.calls == 0 {
		p.step = 0
	}
	return false
}

// PassedOver counts a call that moved on from the endpoint's response and was answered by another.
func (s *State) PassedOver(t *Ticket, now time.Time) {
	s.tell(s.update(t, func() bool { return t.speaksOf(s, t.Outcome).passedOver(t, now) }))
}

func (c *condition) passedOver(t *Ticket, now time.Time) (changed bool) {
	p := &c.passing
	if p.over() && p.trial != t || !p.over() && !p.add(true) {
		return false
	}
	p.trial, p.shown = nil, false
	p.step = min(passingMost, max(passingFor, 2*p.step))
	p.until = now.Add(p.step)
	c.news = append(c.news, event.Event{
		At:      now,
		Kind:    event.EndpointHeld,
		Reason:  ReasonPassedOver,
		Details: map[string]any{"until": p.until, "seconds": p.step.Seconds()},
	})
	return true
}

// trialOver ends the trial of a settled attempt, unless its call moves on from a good
// response: then PassedOver or TrialUnanswered ends it.
func (c *condition) trialOver(t *Ticket, o outcome.Outcome) (changed bool) {
	if c.passing.trial != t || o == outcome.Success && t.MovedOn {
		return false
	}
	c.passing.trial = nil
	return true
}

// TrialUnanswered ends a trial without a result, because no other endpoint answered the call either.
func (s *State) TrialUnanswered(t *Ticket) {
	s.tell(s.update(t, func() bool {
		c := t.speaksOf(s, t.Outcome)
		if c.passing.trial != t {
			return false
		}
		c.passing.trial = nil
		return true
	}))
}
