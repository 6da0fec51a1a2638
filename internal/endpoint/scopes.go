package endpoint

import (
	"slices"
	"strings"
	"time"

	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/event"
)

const (
	// MaxScopes is how many scopes an endpoint keeps apart. Further ones share OtherScope.
	MaxScopes = 64
	// OtherScope is the name of the scope that the calls of further scopes share.
	OtherScope = "other"
	// ForgetScope is after how long without a call a scope is forgotten.
	ForgetScope = 10 * time.Minute
)

// scopes are an endpoint's conditions for each scope of calls, such as the calls for one model. At
// most MaxScopes and OtherScope are kept, so a client that makes up names costs a bounded amount of
// memory and does not affect others. A new scope takes the place of the least recently used one that
// is well and not in regular use. If there is none, the new one shares OtherScope. A scope that is
// known only from other instances takes no place of another, and gives up its own to the first new
// scope with calls here. The zero value has no scopes. State.Mu guards it.
type scopes struct {
	byName  map[string]*condition
	list    []*condition
	crowded bool // scopes that are not in the list share OtherScope

	failing []*condition // scopes that have begun to fail since the latest success of any
	wellAt  uint64       // how many attempts had begun at the endpoint at that success

	// triedBy is the scope whose failure ended the endpoint's latest trial, in the generation tried.
	triedBy *condition
	tried   uint64
}

// find returns the condition for calls of a scope; nil: the scope has had no calls lately.
func (x *scopes) find(name string) *condition {
	if x.byName == nil || name == "" {
		return nil
	}
	if c := x.byName[name]; c != nil || !x.crowded {
		return c
	}
	return x.byName[OtherScope]
}

// enter returns the condition for an attempt of a scope, and makes it if there is none. turn is the
// number of the attempt.
func (x *scopes) enter(name string, turn uint64, now time.Time) *condition {
	c := x.byName[name]
	if c == nil {
		c = x.add(name, now)
	}
	c.used, c.heard = turn, false
	return c
}

func (x *scopes) add(name string, now time.Time) *condition {
	if x.full() && name != OtherScope {
		victim := x.victim(now)
		if x.crowded = victim == nil; x.crowded {
			return x.enter(OtherScope, 0, now)
		}
		x.remove(victim)
	}
	return x.put(name, now)
}

// put makes the condition of a scope, for which there must be room.
func (x *scopes) put(name string, now time.Time) *condition {
	if x.byName == nil {
		x.byName = make(map[string]*condition)
	}
	name = strings.Clone(name) // it may be a part of a request
	c := &condition{scope: name}
	c.quiet.since = now
	x.byName[name] = c
	x.list = append(x.list, c)
	return c
}

// hear returns the condition of a scope of which another instance tells, and makes it; nil: there is
// no room beside the scopes that have calls here.
func (x *scopes) hear(name string, now time.Time) *condition {
	if name == "" || name == OtherScope || x.full() {
		return nil
	}
	c := x.put(name, now)
	c.heard = true
	return c
}

// full reports whether there is no room for another scope.
func (x *scopes) full() bool {
	n := len(x.list)
	if x.byName[OtherScope] != nil {
		n--
	}
	return n >= MaxScopes
}

// tick makes the changes that depend on time alone.
func (x *scopes) tick(now time.Time) {
	if x.crowded {
		x.crowded = x.full() && x.victim(now) == nil
	}
}

// uphold tells the breakers of scopes that a check of the endpoint has passed, or that its calls make it
// unnecessary.
func (x *scopes) uphold() {
	for _, c := range x.list {
		c.breaker.Uphold()
	}
}

// victim returns the scope to forget in favour of a new one; nil: none. First comes a scope that is
// known only from other instances, then one with a single call or without a success, because its
// name may be made up.
func (x *scopes) victim(now time.Time) (victim *condition) {
	for _, c := range x.list {
		if c.heard {
			return c
		}
		if c.scope == OtherScope || c.illByItself(now) || c.proven() && c.calledWithin(now, inUse) {
			continue
		}
		if victim == nil || victim.proven() && !c.proven() || victim.proven() == c.proven() && c.used < victim.used {
			victim = c
		}
	}
	return victim
}

// inUse is how long after its latest call a proven scope keeps its place.
const inUse = time.Minute

// proven reports whether the scope has had several calls and a success.
func (c *condition) proven() bool { return c.begun > 1 && !c.served.IsZero() }

func (x *scopes) remove(c *condition) {
	c.left = true
	delete(x.byName, c.scope)
	is := func(other *condition) bool { return other == c }
	x.list = slices.DeleteFunc(x.list, is)
	x.failing = slices.DeleteFunc(x.failing, is)
}

// drop marks all scopes as over. The breakers of those that events show to be out close for a reason.
func (x *scopes) drop(now time.Time, reason string) {
	for _, c := range x.list {
		c.breaker.Forget(now, reason)
		c.over = true
	}
}

// sweep forgets the scopes that are over, once their events have been collected.
func (x *scopes) sweep() {
	for i := len(x.list) - 1; i >= 0; i-- {
		if x.list[i].over {
			x.remove(x.list[i])
		}
	}
}

// succeeded notes a success of any scope. begun is how many attempts have begun at the endpoint.
func (x *scopes) succeeded(begun uint64) {
	x.wellAt = begun
	if len(x.failing) > 0 {
		x.failing = x.failing[:0]
	}
}

// failed notes that a scope which was not out is to blame for a failure, or has opened.
func (x *scopes) failed(c *condition) {
	if !c.left && !slices.Contains(x.failing, c) {
		x.failing = append(x.failing, c)
	}
}

const (
	// For the whole endpoint to be out, wideOpen scopes must be open, or wideFailing be open or
	// failing. They must be widePart of the scopes that had calls since the latest success. If they
	// are fewer than wideFailing, scopes that worked lately are counted too.
	wideOpen    = 2
	wideFailing = 4
	widePart    = 0.75
)

// wide reports whether the endpoint fails for all scopes: most have begun to fail since the latest
// success of any. Scopes that were out before do not count, because the endpoint worked without
// them. While a scope that worked within the window has not failed, scopes that never worked do not
// count either, because their names may be made up.
func (x *scopes) wide(now time.Time, cfg *breaker.Config) bool {
	open, proven, run, asked, works := 0, 0, 0, 0, 0
	for _, c := range x.list {
		switch {
		case c.heard:
		case slices.Contains(x.failing, c):
			run += c.breaker.Failures.Run
			if c.breaker.State != breaker.Closed {
				open++
			}
			if !c.served.IsZero() {
				proven++
			}
		case c.breaker.State != breaker.Closed:
		case c.used >= x.wellAt:
			asked++
		case !c.served.IsZero() && now.Sub(c.served) < cfg.Window:
			works++
		}
	}
	ill := len(x.failing)
	if works > 0 {
		ill = proven
		open = min(open, ill)
	}
	many := ill >= wideFailing && (open > 0 || run >= cfg.ConsecutiveFailures)
	switch {
	case many:
		return float64(ill) >= widePart*float64(ill+asked)
	case open >= wideOpen:
		return float64(ill) >= widePart*float64(ill+asked+works)
	}
	return false
}

// failSince returns when the first of the scopes began to fail that have since the latest success.
func (x *scopes) failSince(now time.Time, cfg *breaker.Config) time.Time {
	since := now
	for _, c := range x.failing {
		if at := c.breaker.FailsSince(now, cfg); at.Before(since) {
			since = at
		}
		if at := c.breaker.FailingSince(); !at.IsZero() && at.Before(since) {
			since = at
		}
	}
	return since
}

// calledWithin reports whether the scope has had a call within a time, to the precision of ticks.
func (c *condition) calledWithin(now time.Time, within time.Duration) bool {
	return c.begun != c.quiet.begun || now.Sub(c.quiet.since) < within
}

// Unwell returns the scopes whose calls need routes other than calls of unknown scopes do. crowded
// says that unknown scopes share OtherScope; then it returns all scopes.
func (s *State) Unwell(now time.Time, cfg *breaker.Config) (names []string, crowded bool) {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	for _, c := range s.scopes.list {
		if s.scopes.crowded || c.ill(now) || c.breaker.Wary() || c.scorer.Lost > 0 || c.stated.left(now) < nearEnd || c.room > 0 && c.room < 1 || c.wantsCall(now, cfg) {
			names = append(names, c.scope)
		}
	}
	return names, s.scopes.crowded
}

// Restless returns the scopes whose score may change: those with samples since the latest score, or
// with a score below 1.
func (s *State) Restless() (names []string) {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	for _, c := range s.scopes.list {
		if c.restless() {
			names = append(names, c.scope)
		}
	}
	return names
}

// Scores reports whether Rescore may change the score, and whether the endpoint has scopes.
func (s *State) Scores() (restless, scopes bool) {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	return s.own.restless(), len(s.scopes.list) > 0
}

// Suspects returns the scopes for whose calls the endpoint seems much slower than usual, or whose
// clients give up waiting; "" stands for calls without a scope.
func (s *State) Suspects(now time.Time) (names []string) {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	if s.own.suspected(now) != "" {
		names = append(names, "")
	}
	for _, c := range s.scopes.list {
		if c.suspected(now) != "" {
			names = append(names, c.scope)
		}
	}
	return names
}

// DropScopes forgets all scopes for a reason, and returns the events.
func (s *State) DropScopes(now time.Time, reason string) (news []event.Event) {
	_, news = s.update(nil, func() bool {
		s.scopes.drop(now, reason)
		return true
	})
	return news
}
