package endpoint

import "github.com/apifailover/caddy-failover/internal/event"

// NewsLocked takes the events that are to be emitted when the lock is free, with that of
// a breaker which is no longer in generation before.
func (s *State) NewsLocked(before uint64) []event.Event {
	news := s.news
	s.news = nil
	if e := s.TransitionLocked(before); e != nil {
		news = append(news, *e)
	}
	return news
}
