package incident

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/apifailover/caddy-failover/internal/event"
)

// A Storage stores values by key.
type Storage interface {
	Store(ctx context.Context, key string, value []byte) error
	Load(ctx context.Context, key string) ([]byte, error)
}

// asideAs is the end of the key of a damaged value that was set aside.
const asideAs = ".damaged"

// kept is the stored form of a tracker.
type kept struct {
	Saved     time.Time  `json:"saved"`
	Incidents []Incident `json:"incidents"`
	Open      bool       `json:"open,omitempty"` // the latest one is not over
}

// Changed reports whether there is anything to save.
func (t *Tracker) Changed() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.changed
}

// Save stores the incidents if they have changed.
func (t *Tracker) Save(ctx context.Context, storage Storage, key string, now time.Time) error {
	t.mu.Lock()
	if !t.changed {
		t.mu.Unlock()
		return nil
	}
	t.changed = false
	all := kept{now, t.copyLocked(), t.open || t.leftLocked() != nil}
	t.mu.Unlock()
	text, err := json.Marshal(all)
	if err == nil {
		err = storage.Store(ctx, key, text)
	}
	if err != nil {
		t.mu.Lock()
		t.changed = true
		t.mu.Unlock()
		return fmt.Errorf("storing incidents %s: %w", key, err)
	}
	return nil
}

// Load adds the incidents that an earlier process stored. Call it until it returns no error but a DamageError. An
// incident that was not over then ended with that process. If it is the latest one, LeftOpen returns it. A damaged value
// is set aside under another key, where the next one replaces it.
func (t *Tracker) Load(ctx context.Context, storage Storage, key, pool string) error {
	text, err := storage.Load(ctx, key)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("loading incidents %s: %w", key, err)
	}
	var all kept
	err = json.Unmarshal(text, &all)
	if err == nil && all.Saved.IsZero() {
		err = errors.New("the time of the save is missing")
	}
	if err != nil {
		if failed := storage.Store(ctx, key+asideAs, text); failed != nil {
			return fmt.Errorf("incidents %s: %w; setting them aside as %s: %w", key, err, key+asideAs, failed)
		}
		return &DamageError{fmt.Errorf("incidents %s: %w; set aside as %s", key, err, key+asideAs)}
	}
	if n := len(all.Incidents); n > Kept {
		all.Incidents = all.Incidents[n-Kept:]
	}
	open := all.Open
	for i := range all.Incidents {
		one := &all.Incidents[i]
		open = open || i == len(all.Incidents)-1 && one.End.IsZero() // an earlier version stored no Open
		one.Pool = pool
		if one.Endpoints == nil {
			one.Endpoints = []Endpoint{}
		}
		if one.End.IsZero() {
			one.End, one.Interrupted = latest(all.Saved, one.Start), true
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	list := append(all.Incidents, t.list...)
	slices.SortStableFunc(list[:len(all.Incidents)], func(a, b Incident) int { return a.Start.Compare(b.Start) })
	for i := 1; i < len(list); i++ {
		list[i].ID = max(list[i].ID, list[i-1].ID+1)
	}
	if n := len(all.Incidents); open && n > 0 && len(t.list) == 0 {
		t.left = list[n-1].ID
	}
	t.list = slices.Clone(list[max(0, len(list)-Kept):])
	return nil
}

// LeftOpen returns the endpoints of the latest incident, if an earlier process ended before it, and neither EndLeftOpen
// was called nor has another one begun.
func (t *Tracker) LeftOpen() (endpoints []string, open bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	i := t.leftLocked()
	if i == nil {
		return nil, false
	}
	for _, one := range i.Endpoints {
		endpoints = append(endpoints, one.Name)
	}
	return endpoints, true
}

// leftLocked returns the incident of LeftOpen; nil if there is none.
func (t *Tracker) leftLocked() *Incident {
	if n := len(t.list); t.left != 0 && n > 0 && t.list[n-1].ID == t.left {
		return &t.list[n-1]
	}
	return nil
}

// EndLeftOpen notes that the endpoints of the incident of LeftOpen are well, and returns its event; nil: there is none.
func (t *Tracker) EndLeftOpen(now time.Time) (over *event.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if i := t.leftLocked(); i != nil {
		over = i.over(now)
		over.Details["interrupted"] = true
	}
	t.left, t.changed = 0, t.changed || over != nil
	return over
}

// A DamageError means that the stored value cannot be read. The next save replaces it.
type DamageError struct{ err error }

// Error implements error.
func (e *DamageError) Error() string { return e.err.Error() }

// Unwrap returns the cause.
func (e *DamageError) Unwrap() error { return e.err }

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
