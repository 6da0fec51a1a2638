package incident

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"
)

// A Storage stores values by key.
type Storage interface {
	Store(ctx context.Context, key string, value []byte) error
	Load(ctx context.Context, key string) ([]byte, error)
}

// kept is the stored form of a tracker.
type kept struct {
	Saved     time.Time  `json:"saved"`
	Incidents []Incident `json:"incidents"`
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
	all := kept{now, t.copyLocked()}
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

// Load adds the incidents that an earlier process stored. Call it once. An incident that
// was not over then ended with that process.
func (t *Tracker) Load(ctx context.Context, storage Storage, key, pool string) error {
	text, err := storage.Load(ctx, key)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("loading incidents %s: %w", key, err)
	}
	var all kept
	if err := json.Unmarshal(text, &all); err != nil {
		return &DamageError{fmt.Errorf("incidents %s: %w", key, err)}
	}
	if n := len(all.Incidents); n > Kept {
		all.Incidents = all.Incidents[n-Kept:]
	}
	for i := range all.Incidents {
		one := &all.Incidents[i]
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
	t.list = slices.Clone(list[max(0, len(list)-Kept):])
	return nil
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
