package endpoint

import "time"

// servesFor is how long after a success an endpoint certainly still serves.
const servesFor = time.Second

// unscoped are the latest results of calls without a scope. The zero value has none. State.Mu guards
// it.
type unscoped struct{ served, failed time.Time }

// Serves tells whether every call that the endpoint gets may be one of refused scopes. asked says that
// it has had calls of such a scope. serves says that other calls are served, as far as known: one has
// been within servesFor, or those of another scope or without one were, and have not failed since.
func (s *State) Serves(refused func(scope string) bool, now time.Time, window time.Duration) (asked, serves bool) {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	s.countLocked(now)
	serves = within(s.own.served, now, servesFor) || within(s.unscoped.served, now, ForgetScope) && works(s.unscoped.served, s.unscoped.failed, now, window)
	for _, c := range s.scopes.list {
		switch {
		case c.heard:
		case refused(c.scope):
			asked = true
		default:
			serves = serves || works(c.served, c.faults.lastAt(), now, window)
		}
	}
	return asked, serves
}

// works reports whether calls are served that were at a time, and failed last at another. Zero times:
// they never were.
func works(served, failed, now time.Time, window time.Duration) bool {
	return !served.IsZero() && (!failed.After(served) || within(served, now, window))
}

// within reports whether at is less than a time ago; not if it is zero.
func within(at, now time.Time, ago time.Duration) bool {
	age := now.Sub(at)
	return !at.IsZero() && age >= 0 && age < ago
}
