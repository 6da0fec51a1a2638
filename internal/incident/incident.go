// Package incident tells outages apart: what belongs to one, when it began and ended, what
// caused it, and what it cost.
package incident

import (
	"slices"
	"sync"
	"time"

	"github.com/apifailover/caddy-failover/internal/event"
)

const (
	// Kept is how many incidents of a pool are remembered.
	Kept = 200
	// settled is how long all has to be well until an incident is over. What happens again
	// within that time belongs to it.
	settled = 30 * time.Second
	// calmFor is how far back the failures that led to an incident are looked for.
	calmFor = 10 * time.Second
	// maxEndpoints is how many endpoints of an incident are named.
	maxEndpoints = 50
)

// Kinds of incidents.
const (
	Degraded = "degraded" // endpoints were out, and others took their calls
	Down     = "down"     // at some time every endpoint was out
)

// An Incident is one outage of a pool: from when the first endpoint went out until all were
// back.
type Incident struct {
	// Unique in the pool, and rising.
	ID uint64 `json:"id"`

	Pool string `json:"pool"`

	// degraded: endpoints were out, and others took their calls; down: at some time every
	// endpoint was out.
	Kind string `json:"kind"`

	// When it began, and when all was well again; without an end it goes on.
	Start time.Time `json:"start"`
	End   time.Time `json:"end,omitzero"`

	// What took the first endpoint out: "503 from POST /v1/chat".
	Cause string `json:"cause"`

	// The endpoints that were out, in the order in which they went, at most 50.
	Endpoints []Endpoint `json:"endpoints"`

	// How long every endpoint was out, in seconds.
	Down float64 `json:"down_seconds"`

	// Calls whose clients got a failure, and calls that another endpoint answered after one
	// had failed.
	Failed uint64 `json:"calls_failed"`
	Saved  uint64 `json:"calls_saved"`

	// Whether the process ended before the incident did. Then its end is when it was last
	// seen.
	Interrupted bool `json:"interrupted,omitempty"`
}

// An Endpoint is one that was out.
type Endpoint struct {
	Name string `json:"name"`

	// When it went out first, and how often it did.
	Since time.Time `json:"since"`
	Times int       `json:"times"`

	// Why, the first time: the event's reason, and what failed.
	Reason string `json:"reason"`
	Cause  string `json:"cause,omitempty"`
}

// Totals are what a pool has counted since it was made.
type Totals struct{ Failed, Saved uint64 }

// A Tracker makes incidents of a pool's events. The zero value has none. All methods may be
// called at once.
type Tracker struct {
	mu       sync.Mutex
	list     []Incident // oldest first
	open     bool       // the latest goes on
	wellAt   time.Time  // since when all is well, while the latest goes on; zero: it is not
	base     Totals     // when the latest began
	last     Totals
	calm     Totals // before the failures of now began
	calmAt   time.Time
	downAt   time.Time // since when every endpoint is out; zero: not
	downTill float64   // Down of the latest before that
	changed  bool      // since Take
}

// Take has an event belong to the incident that goes on, or begin one. Out says that the
// event is of an endpoint that goes out or of all of them, by nobody's order; cause is what
// for.
func (t *Tracker) Take(e *event.Event, cause string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := e.Kind == event.BreakerOpened && e.Reason != "operator" || e.Kind == event.AllDown
	switch {
	case !out && !t.open:
		return
	case !t.open:
		t.beginLocked(e, cause)
	}
	now := &t.list[len(t.list)-1]
	e.Incident = now.ID
	if !out {
		return
	}
	t.wellAt, now.End, t.changed = time.Time{}, time.Time{}, true
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

func (t *Tracker) beginLocked(e *event.Event, cause string) {
	id := uint64(max(0, e.At.UnixMilli()))
	if n := len(t.list); n > 0 {
		id = max(id, t.list[n-1].ID+1)
	}
	if len(t.list) >= Kept {
		t.list = slices.Delete(t.list, 0, len(t.list)-Kept+1)
	}
	if cause == "" {
		cause = e.Reason
	}
	t.list = append(t.list, Incident{ID: id, Pool: e.Pool, Kind: Degraded, Start: e.At, Cause: cause, Endpoints: []Endpoint{}})
	t.open, t.base, t.changed = true, t.calm, true
}

// Tick follows the incident that goes on: whether an endpoint is out by nobody's order,
// whether all are, and what the pool has counted. It returns the event of an incident that
// is over, and when it has to be called again at the latest; zero: that makes no difference.
func (t *Tracker) Tick(now time.Time, out, down bool, totals Totals) (over *event.Event, due time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.open {
		if age := now.Sub(t.calmAt); totals == t.last || age < 0 || age > calmFor {
			t.calm, t.calmAt = t.last, now
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
		return i.over(now), time.Time{}
	}
	return nil, t.wellAt.Add(settled)
}

// over is the event of an incident that is over.
func (i *Incident) over(now time.Time) *event.Event {
	return &event.Event{
		At: now, Kind: event.IncidentOver, Reason: i.Kind, Incident: i.ID,
		Details: map[string]any{
			"start": i.Start, "end": i.End, "seconds": i.End.Sub(i.Start).Seconds(), "cause": i.Cause,
			"endpoints": len(i.Endpoints), "down_seconds": i.Down, "calls_failed": i.Failed, "calls_saved": i.Saved,
		},
	}
}

// Incidents are those that are remembered, oldest first.
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

// Now is the incident that goes on; nil if there is none, or all is well again.
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
