package endpoint

import (
	"time"

	"github.com/apifailover/caddy-failover/internal/event"
	"github.com/apifailover/caddy-failover/internal/outcome"
)

const (
	firstHold = time.Second
	longHold  = time.Minute
)

// A hold is a time without calls that the endpoint has asked for. The zero value is none.
type hold struct {
	until  time.Time
	step   time.Duration // length of the latest hold without a stated end
	by     *Ticket       // the attempt that caused it; nil once it is over
	from   string        // the instance that the endpoint asked; empty: this one
	reason string        // the reason, if another instance told of it
	soft   bool          // the request may have caused it: a success ends it, and it never takes out the last endpoint
	cause  Cause         // the cause of the latest hold
}

// on reports whether the hold lasts.
func (h *hold) on(now time.Time) bool { return now.Before(h.until) }

// end ends the hold.
func (h *hold) end() { h.until, h.by, h.soft, h.from = time.Time{}, nil, false, "" }

// holdFor begins a hold because of an attempt's response. It lasts for wait. If wait is 0, it lasts
// for firstHold, and twice as long each time, up to longHold. soft says that the request may have
// caused the response.
func (c *condition) holdFor(t *Ticket, now time.Time, wait time.Duration, soft bool) {
	h := &c.hold
	switch {
	case wait <= 0 && h.on(now):
		return // the attempt began before the hold
	case wait <= 0:
		h.step = min(longHold, max(firstHold, 2*h.step))
		wait = h.step
	}
	until := now.Add(min(wait, outcome.MaxHold))
	if !until.After(h.until) {
		return
	}
	if last := c.faults.kinds.latest(); last != nil {
		h.cause = last.Cause
	}
	h.until, h.by, h.soft, h.from, h.reason = until, t, soft, "", ""
	e := event.Event{
		At:      now,
		Kind:    event.EndpointHeld,
		Reason:  outcome.RateLimited.String(),
		Details: map[string]any{"until": until, "seconds": until.Sub(now).Seconds()},
	}
	h.cause.AddTo(e.Details)
	c.news = append(c.news, e)
}

// only429 counts 429s in a row. The zero value has seen none.
type only429 struct {
	n     int
	since time.Time // when the first came
	began time.Time // when the attempt began that began last of those that got one
}

const (
	only429Run = 5               // so many calls in a row, and
	only429For = 2 * time.Second // for so long, are more than one odd request
)

// add counts a 429 of an attempt that began at a time. served is the time of the latest success.
func (q *only429) add(began, served, now time.Time) {
	if q.n == 0 || served.After(q.since) {
		q.n, q.since = 0, now
	}
	q.n++
	if began.After(q.began) {
		q.began = began
	}
}

// AnswersOnly429 reports whether the endpoint has answered several calls in a row with a 429, for a while,
// and serves no other.
func (v Scoped) AnswersOnly429(now time.Time) (only bool) {
	v.Mu.Lock()
	defer v.Mu.Unlock()
	if v.servedLately(now) {
		return false
	}
	v.each(func(c *condition) {
		q := &c.only429
		only = only || q.n >= only429Run && now.Sub(q.since) >= only429For && !c.served.After(q.since)
	})
	return only
}

// Answers429ToSome reports whether the endpoint has served a call that began at a time or later, and then has answered a
// later one with a 429. If no call of the scope was ever served, its name may be made up, so any success counts.
func (v Scoped) Answers429ToSome(since, now time.Time) bool {
	v.Mu.Lock()
	defer v.Mu.Unlock()
	v.countLocked(now)
	if c := v.about(); c != nil && !c.served.IsZero() {
		return !c.servedSince.Before(since) && c.only429.began.After(c.servedSince)
	}
	return v.own.served.After(since)
}

// resolveHold confirms a hold, or shortens it because the request caused the 429.
func (c *condition) resolveHold(t *Ticket, now time.Time, confirmed bool) (changed bool) {
	h := &c.hold
	if h.by != t || h.until.IsZero() {
		return false
	}
	h.soft = !confirmed
	if soon := now.Add(doubtfulHold); !confirmed && h.until.After(soon) {
		h.until = soon
	}
	return true
}
