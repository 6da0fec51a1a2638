// Package incident groups the events of a pool into outages: which events belong to one,
// its start and end, its cause, and its cost.
package incident

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/apifailover/caddy-failover/internal/event"
)

const (
	// Kept is the number of incidents of a pool that are remembered.
	Kept = 200
	// settled is how long all endpoints must be well until an incident is over. Events
	// within that time belong to it.
	settled = 30 * time.Second
	// calmFor is how long before an incident its failures may begin.
	calmFor = 10 * time.Second
	// maxEndpoints is the number of endpoints that an incident names.
	maxEndpoints = 50
)

// Kinds of incidents.
const (
	Degraded = "degraded" // endpoints were out, and others took their calls
	Down     = "down"     // at some time the pool was down
)

// An Incident is one outage of a pool: from the first failure of the endpoint that went out
// first until all were back.
type Incident struct {
	// Unique in the pool, and rising.
	ID uint64 `json:"id"`

	Pool string `json:"pool"`

	// degraded: endpoints were out, and others took their calls; down: at some time the pool
	// was down.
	Kind string `json:"kind"`

	// Start and end: from the first of the failures that took the first endpoint out, as far
	// as known, until all endpoints were back. No end while it lasts.
	Start time.Time `json:"start"`
	End   time.Time `json:"end,omitzero"`

	// What took the first endpoint out: "503 from POST /v1/chat".
	Cause string `json:"cause"`

	// The endpoints that were out, in the order in which they went out, at most 50.
	Endpoints []Endpoint `json:"endpoints"`

	// How long the pool was down, in seconds.
	Down float64 `json:"down_seconds"`

	// Calls since the start whose clients got a failure, and calls that succeeded at another
	// endpoint after a failure.
	Failed uint64 `json:"calls_failed"`
	Saved  uint64 `json:"calls_saved"`

	// Whether the process ended before the incident did. Its end is then the time when it
	// was last seen.
	Interrupted bool `json:"interrupted,omitempty"`
}

// An Endpoint is an endpoint that was out.
type Endpoint struct {
	Name string `json:"name"`

	// When it first went out, and how often it did.
	Since time.Time `json:"since"`
	Times int       `json:"times"`

	// Why it first went out: the event's reason, and what failed.
	Reason string `json:"reason"`
	Cause  string `json:"cause,omitempty"`
}

// Totals holds the counts of a pool since it was made.
type Totals struct{ Failed, Saved uint64 }

// A Tracker makes incidents from a pool's events. The zero value has none. All methods are
// safe for concurrent use.
type Tracker struct {
	mu       sync.Mutex
	list     []Incident // oldest first
	open     bool       // the latest incident is not over
	wellAt   time.Time  // when all endpoints became well during the latest incident; zero if they are not
	base     Totals     // totals at the start of the latest incident
	last     Totals
	calm     Totals // totals before the current failures began, if it is not known when
	calmAt   time.Time
	past     past
	downAt   time.Time // when the last endpoint went out; zero if one is available
	downTill float64   // Down of the latest incident before downAt
	changed  bool      // changed since the last save
	left     uint64    // ID of the latest incident if an earlier process ended before it; 0: it did not, or its end has been told
}

// Take adds an event to the current incident, and starts one if the event is an endpoint or
// all endpoints going out without an operator's order. It sets the event's Incident. cause
// describes the failure; "" means the event's reason.
func (t *Tracker) Take(e *event.Event, cause string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := e.Kind == event.BreakerOpened && e.Reason != "operator" || e.Kind == event.AllDown
	begins := out && !t.open
	switch {
	case begins:
		t.beginLocked(e)
	case !t.open:
		return
	}
	now := &t.list[len(t.list)-1]
	e.Incident = now.ID
	if !out {
		return
	}
	t.wellAt, now.End, t.changed = time.Time{}, time.Time{}, true
	if begins || e.Kind == event.BreakerOpened && len(now.Endpoints) == 0 { // AllDown may come first
		now.Cause = cmp.Or(cause, e.Reason)
		if start, base := t.startLocked(e); begins || start.Before(now.Start) {
			now.Start, t.base = start, base
		}
	}
	if e.Kind == event.AllDown {
		now.Kind = Down
		if t.downAt.IsZero() {
			t.downAt, t.downTill = e.At, now.Down
		}
		return
	}
	i := slices.IndexFunc(now.Endpoints, func(one Endpoint) bool { return one.Name == e.Endpoint })
	switch {
	case i >= 0:
		now.Endpoints[i].Times++
	case len(now.Endpoints) < maxEndpoints:
		now.Endpoints = append(now.Endpoints, Endpoint{e.Endpoint, e.At, 1, e.Reason, cause})
	}
}

// beginLocked begins an incident with an event.
func (t *Tracker) beginLocked(e *event.Event) {
	id := uint64(max(0, e.At.UnixMilli()))
	if n := len(t.list); n > 0 {
		id = max(id, t.list[n-1].ID+1)
	}
	if len(t.list) >= Kept {
		t.list = slices.Delete(t.list, 0, len(t.list)-Kept+1)
	}
	t.list = append(t.list, Incident{ID: id, Pool: e.Pool, Kind: Degraded, Endpoints: []Endpoint{}})
	t.open = true
}

// startLocked returns when the failures began that an event tells of, and the totals before them.
func (t *Tracker) startLocked(e *event.Event) (time.Time, Totals) {
	if since, known := e.Details[event.FailingSince].(time.Time); known && since.Before(e.At) {
		return t.past.from(since)
	}
	return e.At, t.calm
}

// Tick updates the current incident. out says whether an endpoint is out without an
// operator's order, down whether all are out, and totals are the pool's counts. It returns
// the event of an incident that is over, and the time by which it must be called again;
// zero if there is none.
func (t *Tracker) Tick(now time.Time, out, down bool, totals Totals) (over *event.Event, due time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.open {
		if age := now.Sub(t.calmAt); totals == t.last || age < 0 || age > calmFor {
			t.calm, t.calmAt = t.last, now
		}
		if totals != t.last {
			t.past.add(now, totals)
		}
		t.last = totals
		return nil, time.Time{}
	}
	t.last = totals
	i := &t.list[len(t.list)-1]
	if failed, saved := totals.Failed-t.base.Failed, totals.Saved-t.base.Saved; failed != i.Failed || saved != i.Saved {
		i.Failed, i.Saved, t.changed = failed, saved, true
	}
	if !t.downAt.IsZero() {
		i.Down = t.downTill + max(0, now.Sub(t.downAt).Seconds())
		if !down {
			t.downAt = time.Time{}
		}
	}
	if out || down {
		if !t.wellAt.IsZero() {
			t.wellAt, i.End, t.changed = time.Time{}, time.Time{}, true
		}
		return nil, time.Time{}
	}
	if since := now.Sub(t.wellAt); t.wellAt.IsZero() || since < 0 {
		t.wellAt, i.End, t.changed = now, now, true
	} else if since >= settled {
		t.open, t.changed = false, true
		t.calm, t.calmAt = totals, now
		t.past = past{starts: i.End, before: totals}
		return i.over(now), time.Time{}
	}
	return nil, t.wellAt.Add(settled)
}

// over returns the event of an incident that is over.
func (i *Incident) over(now time.Time) *event.Event {
	return &event.Event{
		At: now, Kind: event.IncidentOver, Reason: i.Kind, Incident: i.ID,
		Details: map[string]any{
			"start": i.Start, "end": i.End, "seconds": i.End.Sub(i.Start).Seconds(), "cause": i.Cause,
			"endpoints": len(i.Endpoints), "down_seconds": i.Down, "calls_failed": i.Failed, "calls_saved": i.Saved,
		},
	}
}

// Incidents returns the remembered incidents, oldest first.
func (t *Tracker) Incidents() []Incident {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.copyLocked()
}

func (t *Tracker) copyLocked() []Incident {
	list := slices.Clone(t.list)
	for i := range list {
		list[i].Endpoints = slices.Clone(list[i].Endpoints)
	}
	return list
}

// Now returns the current incident, or nil if there is none or all endpoints are well
// again.
func (t *Tracker) Now() *Incident {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.open || !t.wellAt.IsZero() {
		return nil
	}
	now := t.list[len(t.list)-1]
	now.Endpoints = slices.Clone(now.Endpoints)
	return &now
}
