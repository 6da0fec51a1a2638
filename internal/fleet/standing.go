package fleet

import (
	"context"
	"errors"
	"time"
)

// A standing is how well an engine serves.
type standing uint8

const (
	serves standing = iota
	full            // it passes records on but does not store all of them
	lost
)

// standingOf returns the standing of an engine after an error; nil: after none.
func standingOf(err error) standing {
	switch {
	case err == nil:
		return serves
	case errors.Is(err, ErrFull):
		return full
	}
	return lost
}

// standings decide which changes of an engine's standing are told, so that an engine that comes and goes causes few Changes: one
// for the worse is told at once, one for the better once it has lasted for a while. The zero value has told nothing.
type standings struct {
	told   standing
	since  time.Time     // when it was lost or full, after it had served
	better time.Time     // since when it has been better than told; zero: it is not
	lasts  time.Duration // how long a better one must last
	rose   time.Time     // when a better one was told last
}

const (
	// fullLasts is for how long an engine must have had room to count as full no more.
	fullLasts = 5 * time.Second
	// A change for the better is told at once if there was none within calm. Else it must last for firstLasts,
	// and for twice as long each time, at most longestLasts.
	calm         = 5 * time.Minute
	firstLasts   = 5 * time.Second
	longestLasts = 5 * time.Minute
)

// see takes the latest standing, and reports whether to tell it. gone is for how long the engine has not served.
func (s *standings) see(latest standing, now time.Time) (tell bool, gone time.Duration) {
	switch {
	case latest == s.told:
		s.better = time.Time{}
		return false, 0
	case latest > s.told:
		if s.told == serves {
			s.since = now
		}
		switch {
		case s.rose.IsZero() || now.Sub(s.rose) >= calm:
			s.lasts = 0
		default:
			s.lasts = min(longestLasts, max(firstLasts, 2*s.lasts))
		}
	default:
		if s.better.IsZero() {
			s.better = now
		}
		lasts := s.lasts
		if s.told == full {
			lasts = max(lasts, fullLasts)
		}
		if now.Sub(s.better) < lasts {
			return false, 0
		}
		s.rose = now
	}
	s.told, s.better = latest, time.Time{}
	return true, now.Sub(s.since)
}

// saw takes what a call of the engine returned, and tells a change of its standing. It does nothing if ctx has ended, because the node
// uses another engine then.
func (n *Node) saw(ctx context.Context, err error) {
	now, latest := time.Now(), standingOf(err)
	n.mu.Lock()
	if ctx.Err() != nil {
		n.mu.Unlock()
		return
	}
	if latest == lost {
		n.connected.Store(false)
	}
	tell, gone := n.standings.see(latest, now)
	n.mu.Unlock()
	if !tell || n.set.Changed == nil {
		return
	}
	c := Change{Connected: latest != lost, Err: err}
	if err == nil {
		c.Gone = gone
	}
	n.set.Changed(c)
}
