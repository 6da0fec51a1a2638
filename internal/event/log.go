package event

import (
	"slices"
	"sync"
)

// Kept is the number of events that a Log remembers.
const Kept = 1000

// Latest holds the latest events of all pools.
var Latest Log

// A Log remembers the latest events and passes new ones on to subscribers. The zero value
// is empty. All methods are safe for concurrent use.
type Log struct {
	mu          sync.Mutex
	ring        [Kept]Event // event n is at index (n-1) % Kept
	newest      uint64      // ID of the newest event
	subscribers map[*Subscription]struct{}
}

// Add numbers an event, keeps it, and sends it to the subscribers. It drops subscribers
// whose buffer is full.
func (l *Log) Add(e Event) Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.newest++
	e.ID = l.newest
	l.ring[(e.ID-1)%Kept] = e
	for s := range l.subscribers {
		select {
		case s.Events <- e:
		default:
			s.lagged = true
			l.dropLocked(s)
		}
	}
	return e
}

// Since returns the remembered events after the given ID, oldest first. An ID above the
// newest is from another process and counts as 0.
func (l *Log) Since(id uint64) []Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sinceLocked(id)
}

func (l *Log) sinceLocked(id uint64) []Event {
	if id > l.newest {
		id = 0
	}
	if l.newest > Kept {
		id = max(id, l.newest-Kept)
	}
	list := make([]Event, 0, l.newest-id)
	for id++; id <= l.newest; id++ {
		list = append(list, l.ring[(id-1)%Kept])
	}
	return list
}

// Subscribe returns the remembered events after the given ID, like Since, and a
// subscription to all later events.
func (l *Log) Subscribe(after uint64) ([]Event, *Subscription) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := &Subscription{log: l, Events: make(chan Event, 256)}
	if l.subscribers == nil {
		l.subscribers = make(map[*Subscription]struct{})
	}
	l.subscribers[s] = struct{}{}
	return l.sinceLocked(after), s
}

func (l *Log) dropLocked(s *Subscription) {
	if _, ok := l.subscribers[s]; ok {
		delete(l.subscribers, s)
		close(s.Events)
	}
}

// A Subscription receives events until it is closed. A reader that falls 256 events behind
// is dropped: the channel is closed after its buffered events, and TooSlow returns true.
type Subscription struct {
	log    *Log
	Events chan Event
	lagged bool // guarded by log.mu
}

// TooSlow reports whether the subscription ended because its reader fell behind.
func (s *Subscription) TooSlow() bool {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	return s.lagged
}

// Close ends the subscription. It may be called again.
func (s *Subscription) Close() {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	s.log.dropLocked(s)
}

// DetailNames returns the names of the event's details, sorted.
func (e *Event) DetailNames() []string {
	names := make([]string, 0, len(e.Details))
	for name := range e.Details {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
