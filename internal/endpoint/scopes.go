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
	// OtherScope is the name of the scope that calls share while all others are ill.
	OtherScope = "other"
	// ForgetScope is after how long without a call a scope is forgotten.
	ForgetScope = 10 * time.Minute
)

// scopes are the conditions of an endpoint for calls of one kind each, such as those for one
// model. What speaks of one kind alone changes no other's. At most MaxScopes and OtherScope are
// kept, so that a client that makes names up costs a bounded amount of memory, and keeps nothing
// from others. A new scope takes the place of the least recently used one that is well and not in
// regular use; if there is none, it shares OtherScope. The zero value has none. State.Mu guards it.
type scopes struct {
	byName  map[string]*condition
	list    []*condition
	crowded bool // scopes that are not here share OtherScope

	failing []*condition // have begun to fail since the latest success of any
	wellAt  uint64       // how many attempts had begun at the endpoint at that success

	// triedBy is whose failure ended the endpoint's latest trial, in the generation tried.
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

// enter returns the condition for an attempt of a scope, and makes it if need be.
func (x *scopes) enter(name string, turn uint64, now time.Time) *condition {
	c := x.byName[name]
	if c == nil {
		c = x.add(name, now)
	}
	c.used = turn
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

// victim returns the scope to forget in favour of a new one; nil: none. A scope of a single call, or
// without a success, goes first: its name may be made up.
func (x *scopes) victim(now time.Time) (victim *condition) {
	for _, c := range x.list {
		if c.scope == OtherScope || c.ill(now) || c.proven() && c.calledWithin(now, inUse) {
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

// drop makes all scopes ready to be forgotten. Those that events show to be out close for a reason.
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

// succeeded notes a success of some scope. begun is how many attempts have begun at the endpoint.
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
	// wideOpen scopes must be open for the endpoint to be out as a whole, or wideFailing be open or
	// failing. widePart of the scopes must be so that had calls since the latest success and, unless
	// wideFailing are, of those that worked lately.
	wideOpen    = 2
	wideFailing = 4
	widePart    = 0.75
)

// wide reports whether the endpoint fails whatever the scope: most scopes have begun to fail since
// the latest success of any. Those that were out before say nothing: the endpoint worked without
// them. While a scope that worked within the window has not failed, those that never worked say
// nothing either: their names may be made up.
func (x *scopes) wide(now time.Time, cfg *breaker.Config) bool {
	open, proven, run, asked, works := 0, 0, 0, 0, 0
	for _, c := range x.list {
		switch {
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

// calledWithin reports whether the scope has had a call within a time, to the precision of ticks.
func (c *condition) calledWithin(now time.Time, within time.Duration) bool {
	return c.begun != c.quiet.begun || now.Sub(c.quiet.since) < within
}

// Unwell returns the scopes whose calls cannot have the endpoint as those of unknown scopes can, and
// whether these share OtherScope: then no known scope is as they are.
func (s *State) Unwell(now time.Time, cfg *breaker.Config) (names []string, crowded bool) {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	for _, c := range s.scopes.list {
		if s.scopes.crowded || c.ill(now) || c.scorer.Lost > 0 || c.stated.left(now) < nearEnd || c.room > 0 && c.room < 1 || c.wantsCall(now, cfg) {
			names = append(names, c.scope)
		}
	}
	return names, s.scopes.crowded
}

// Restless returns the scopes whose score may change: those with samples since the latest one, or
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
