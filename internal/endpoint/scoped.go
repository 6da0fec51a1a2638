package endpoint

import (
	"math"
	"slices"
	"time"

	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/event"
	"github.com/apifailover/caddy-failover/internal/outcome"
	"github.com/apifailover/caddy-failover/internal/slowness"
)

// A Scoped is an endpoint as calls of one scope find it. Both the endpoint's own condition and that
// of the scope can keep these calls away.
type Scoped struct {
	*State
	scope string
}

// For returns the endpoint as calls of a scope find it; "": calls without one.
func (s *State) For(scope string) Scoped { return Scoped{s, scope} }

// two returns the endpoint's own condition, and the scope's; nil: nothing is known of the scope. It
// needs Mu.
func (v Scoped) two() (own, about *condition) { return &v.State.own, v.State.scopes.find(v.scope) }

// each calls do with each condition on which calls of the scope depend. It needs Mu.
func (v Scoped) each(do func(c *condition)) {
	own, about := v.two()
	do(own)
	if about != nil {
		do(about)
	}
}

// Available returns how much of its normal traffic the endpoint can have now, 0 to 1.
func (v Scoped) Available(now time.Time, cfg *breaker.Config) float64 {
	v.Mu.Lock()
	defer v.Mu.Unlock()
	if v.barred {
		return 0
	}
	return v.available(now, cfg, false)
}

// Out reports whether the endpoint takes no calls, even if no other endpoint takes any. Then cooldowns in doubt and used up
// quotas keep no calls away.
func (v Scoped) Out(now time.Time, cfg *breaker.Config) bool {
	v.Mu.Lock()
	defer v.Mu.Unlock()
	return v.barred || v.available(now, cfg, true) == 0
}

// available is Available without regard to orders and plans. pastDoubt ignores soft holds and quotas.
// It needs Mu.
func (v Scoped) available(now time.Time, cfg *breaker.Config, pastDoubt bool) float64 {
	own, about := v.two()
	part := own.available(now, cfg, pastDoubt)
	switch {
	case about == nil || part == 0:
		return part
	case own.breaker.State == breaker.ForcedClosed: // an operator wants it used
		if about.keptAway(now, pastDoubt) {
			return 0
		}
		return part
	}
	return part * about.available(now, cfg, pastDoubt)
}

// Assess returns how much of its normal traffic the endpoint can have now, 0 to 1, whether it
// wants a call as a trial, and whether calls pass it over. soft ignores soft holds and passing over.
func (v Scoped) Assess(now time.Time, cfg *breaker.Config, soft bool) (available float64, trial, passed bool) {
	v.Mu.Lock()
	defer v.Mu.Unlock()
	if v.barred {
		return 0, false, false
	}
	own, about := v.two()
	available, trial, passed = own.assess(now, cfg, soft)
	if about == nil || own.keptAway(now, soft) || own.breaker.State == breaker.ForcedClosed && !about.keptAway(now, soft) {
		return available, trial, passed
	}
	part, wants, over := about.assess(now, cfg, soft)
	if own.breaker.IsOpen() || about.breaker.IsOpen() || about.keptAway(now, soft) {
		return 0, false, false
	}
	return available * part, trial || wants, passed || over
}

// WantsTrial reports whether the endpoint should get the next call that can be sent elsewhere,
// because it recovers or its score brings it too few calls. urgent says that it should get any call.
func (v Scoped) WantsTrial(now time.Time, cfg *breaker.Config) (wants, urgent bool) {
	v.Mu.Lock()
	defer v.Mu.Unlock()
	v.each(func(c *condition) {
		one, any := c.breaker.WantsTrial(now, cfg)
		if c.wantsCall(now, cfg) {
			one, any = true, false
		}
		wants, urgent = wants || one, urgent || any
	})
	return wants, urgent
}

// WantsPassingTrial reports whether a call may try an endpoint that is passed over. urgent says that
// the call need not be one that can be sent elsewhere.
func (v Scoped) WantsPassingTrial(now time.Time) (wants, urgent bool) {
	v.Mu.Lock()
	defer v.Mu.Unlock()
	c := v.about()
	if c == nil {
		return false, false
	}
	return c.passing.due(now), now.Sub(c.passing.until) >= passingTried
}

// about returns the condition of the scope, or the endpoint's own without a scope; nil: nothing is
// known of the scope. It needs Mu.
func (v Scoped) about() *condition {
	if v.scope == "" {
		return &v.own
	}
	return v.scopes.find(v.scope)
}

// Returns returns when the endpoint can be tried again at the earliest: now if nothing
// prevents it, zero if only an operator can release it. held says that only a hold keeps
// calls away.
func (v Scoped) Returns(now time.Time, cfg *breaker.Config) (at time.Time, held bool) {
	v.Mu.Lock()
	defer v.Mu.Unlock()
	if v.own.breaker.State == breaker.ForcedOpen {
		return time.Time{}, false
	}
	at = now
	open, until, back := false, now, now // until: the end of holds; back: that of used up quotas
	v.each(func(c *condition) {
		if c.breaker.State == breaker.Open && !cfg.Off {
			open = true
			if c.breaker.Until.After(at) {
				at = c.breaker.Until
			}
		}
		if c.hold.until.After(until) {
			until = c.hold.until
		}
		if c.stated.until.After(back) {
			back = c.stated.until
		}
	})
	switch {
	case until.After(at):
		return until, !open
	case back.After(at):
		return back, !open
	}
	return at, false
}

// ServesSome returns the part of the calls, 0 to 1, that an endpoint that is out still answers well. may reports
// whether it may be out only because of what requests do: it can be reached, and nothing but failures and 429s keeps
// calls away.
func (v Scoped) ServesSome(now time.Time) (part float64, may bool) {
	v.Mu.Lock()
	defer v.Mu.Unlock()
	if v.barred || v.own.breaker.State == breaker.ForcedOpen {
		return 0, false
	}
	part, may = 1, true
	out := false
	v.each(func(c *condition) {
		switch {
		case c.hold.on(now):
			part, out = 0, true
		case c.breaker.Latest == breaker.CheckHasFailed && c.breaker.State == breaker.Open:
			may = false
		case c.breaker.State != breaker.Open && c.breaker.State != breaker.Recovering:
		case !c.faults.last.MayBeTheRequests():
			may = false
		default:
			part, out = part*c.breaker.Served, true
		}
	})
	if !out || !may {
		return 0, false
	}
	return part, true
}

// IdleSince returns when the endpoint was last tried. free says that a call that may use asked tokens
// could try it now, if its open period were over.
func (v Scoped) IdleSince(now time.Time, cfg *breaker.Config, b *Bounds, asked int64) (at time.Time, free bool) {
	v.Mu.Lock()
	defer v.Mu.Unlock()
	free = v.own.breaker.State != breaker.ForcedOpen && !v.fullLocked(b) && !v.readyLocked(b, now, asked).After(now)
	v.each(func(c *condition) {
		free = free && !c.hold.on(now) && !c.breaker.TrialTaken(now, cfg)
		for _, tried := range [...]time.Time{c.breaker.Changed, c.lastTried} { // until Changed it was closed
			if tried.After(at) {
				at = tried
			}
		}
	})
	return at, free
}

// Usual returns the mean latency of good responses, 0 if it is unknown or calls are kept away, and
// whether Rescore may change the score.
func (v Scoped) Usual(now time.Time, cfg *breaker.Config) (mean time.Duration, restless bool) {
	if known := v.State.usual.Load(); known > 0 { // it has no scopes, is available, and has no news
		if v.scope != "" {
			return 0, false
		}
		return time.Duration(known - 1), false
	}
	v.Mu.Lock()
	defer v.Mu.Unlock()
	if c := v.about(); c != nil {
		mean, restless = c.scorer.Typical(), c.restless()
	}
	v.each(func(c *condition) {
		if c.breaker.Allowed(cfg) == 0 || c.hold.on(now) {
			mean = 0
		}
	})
	return mean, restless
}

// hedgeAtLeast is the shortest delay of a hedge.
const hedgeAtLeast = 10 * time.Millisecond

// Typically returns the quantile q of the time to the first byte, at least hedgeAtLeast; 0 if too few
// times are known.
func (v Scoped) Typically(now time.Time, q float64) time.Duration {
	v.Mu.Lock()
	v.countLocked(now)
	var known slowness.Histogram
	if c := v.about(); c != nil {
		known = c.slowness.Known
	}
	v.Mu.Unlock()
	total := known.Total()
	if total < slowness.MinKnown {
		return 0
	}
	return max(hedgeAtLeast, known.Quantile(float32(q), total))
}

// Load returns the expected wait of a call in seconds. `balance least_latency` compares it.
func (v Scoped) Load() float64 {
	peak := v.own.peak.Load()
	if v.scope != "" {
		peak = 0
		v.Mu.Lock()
		if c := v.about(); c != nil {
			peak = c.peak.Load()
		}
		v.Mu.Unlock()
	}
	return float64(v.Busy.Load()+1) * math.Float64frombits(peak)
}

// ServedLately reports whether a call of the scope has succeeded at the endpoint within servedFor, or
// has begun to get a good response. If the scope never had a success, its name may be made up, so
// calls of all scopes count.
func (v Scoped) ServedLately(now time.Time) bool {
	v.Mu.Lock()
	defer v.Mu.Unlock()
	return v.servedLately(now)
}

func (v Scoped) servedLately(now time.Time) bool {
	v.countLocked(now)
	c := v.about()
	if c == nil || c.served.IsZero() {
		c = &v.own
	}
	return !c.served.IsZero() && now.Sub(c.served) <= servedFor || v.othersUnderWay(c, time.Time{}, math.MaxInt64/2, now)
}

// MayServe reports whether other calls may be served at the endpoint: one has succeeded within
// servedFor, one is under way, or none has ever succeeded.
func (v Scoped) MayServe(now time.Time) bool {
	v.Mu.Lock()
	defer v.Mu.Unlock()
	return v.servedLately(now) || v.own.served.IsZero() || v.othersUnderWay(&v.own, time.Time{}, 0, now)
}

// OthersUnderWay reports whether a call of the scope gets a good response, or has waited for one for
// clearly longer than a call took that failed.
func (v Scoped) OthersUnderWay(took time.Duration, now time.Time) bool {
	v.Mu.Lock()
	defer v.Mu.Unlock()
	c := v.about()
	if c == nil {
		c = &v.own
	}
	return v.othersUnderWay(c, time.Time{}, took, now)
}

// HeldInDoubt reports whether a 429 that a request may have caused holds the endpoint, or is
// in doubt.
func (v Scoped) HeldInDoubt(now time.Time) (doubt bool) {
	v.Mu.Lock()
	defer v.Mu.Unlock()
	v.each(func(c *condition) {
		doubt = doubt || c.hold.soft && c.hold.on(now) ||
			slices.ContainsFunc(c.doubts, func(f failure) bool { return f.ticket.Outcome == outcome.RateLimited })
	})
	return doubt
}

// Held reports whether a 429 keeps calls away.
func (v Scoped) Held(now time.Time) (held bool) {
	v.Mu.Lock()
	defer v.Mu.Unlock()
	v.each(func(c *condition) { held = held || c.hold.on(now) })
	return held
}

// SetAllOut sets whether every endpoint of the pool is out, for calls of the scope.
func (v Scoped) SetAllOut(out bool) {
	v.Mu.Lock()
	defer v.Mu.Unlock()
	if c := v.about(); c != nil {
		c.breaker.AllOut = out
	}
}

// SetScopesOut sets for which scopes every endpoint of the pool is out.
func (s *State) SetScopesOut(out func(scope string) bool) {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	for _, c := range s.scopes.list {
		c.breaker.AllOut = out(c.scope)
	}
}

// Rescore computes the score and publishes it if it moved by score.Step or more, or back to
// 1. It reports whether it did.
func (v Scoped) Rescore(cfg *breaker.Config, reference, usual time.Duration) bool {
	v.Mu.Lock()
	defer v.Mu.Unlock()
	c := v.about()
	return c != nil && c.rescore(cfg, reference, usual)
}

// OpenSlow opens the breaker of a suspect. It returns whether it did, and the events.
func (v Scoped) OpenSlow(now time.Time, cfg *breaker.Config) (changed bool, news []event.Event) {
	var limit, perUnit time.Duration
	changed, news = v.update(nil, func() bool {
		c := v.about()
		if c == nil {
			return false
		}
		reason := c.suspected(now)
		if flow := c.flows.suspect(now); flow != nil {
			perUnit = flow.Limit
		} else if reason == breaker.ReasonSlower {
			limit = c.slowness.Limit
		}
		if reason != "" {
			c.byFlow, c.silence.opened = perUnit > 0, c.silence.run > c.inVain.run
		}
		if reason == "" || !c.breaker.Suspect(now, cfg, reason) {
			return false
		}
		v.spreadLocked(c, now, cfg)
		return true
	})
	switch {
	case perUnit > 0:
		explainFlow(news, perUnit)
	case limit > 0:
		explain(news, "limit_seconds", limit.Seconds())
	}
	return changed, news
}
