// Package fleettest is an engine within the process, for tests.
package fleettest

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/apifailover/caddy-failover/internal/fleet"
)

// A Hub joins instances in one process. Tests make it fail.
type Hub struct {
	mu       sync.Mutex
	stored   map[string]stored
	watchers map[chan fleet.Record]bool
	down     error
	hangs    chan struct{} // nil: they do not hang
	told     int
}

type stored struct {
	fleet.Record
	until time.Time
}

// NewHub returns an empty hub.
func NewHub() *Hub {
	return &Hub{stored: make(map[string]stored), watchers: make(map[chan fleet.Record]bool)}
}

// Down makes all calls fail until Up, and ends all watchers.
func (h *Hub) Down() { h.change(errors.New("the hub is down"), false) }

// Hang makes all calls hang until Up.
func (h *Hub) Hang() { h.change(nil, true) }

// Up ends Down and Hang.
func (h *Hub) Up() { h.change(nil, false) }

func (h *Hub) change(down error, hangs bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.down = down
	if h.hangs != nil {
		close(h.hangs)
		h.hangs = nil
	}
	if hangs {
		h.hangs = make(chan struct{})
	}
	if down != nil {
		for w := range h.watchers {
			close(w)
			delete(h.watchers, w)
		}
	}
}

// Empty forgets all that is stored.
func (h *Hub) Empty() {
	h.mu.Lock()
	defer h.mu.Unlock()
	clear(h.stored)
}

// Told returns how many records were published.
func (h *Hub) Told() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.told
}

// Inject publishes a record as a stranger would.
func (h *Hub) Inject(r fleet.Record) { _, _ = h.Publish(context.Background(), []fleet.Record{r}) }

func (h *Hub) fails(ctx context.Context) error {
	h.mu.Lock()
	down, hangs := h.down, h.hangs
	h.mu.Unlock()
	if hangs != nil {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-hangs:
			return nil
		}
	}
	return down
}

// Publish implements fleet.Engine.
func (h *Hub) Publish(ctx context.Context, records []fleet.Record) (forgotten bool, err error) {
	if err := h.fails(ctx); err != nil {
		return false, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	for _, r := range records {
		if s, ok := h.stored[r.Key]; r.Proof && (!ok || s.until.Before(now)) {
			forgotten = true
		}
		if r.Left > 0 && r.Key != "" {
			h.stored[r.Key] = stored{r, now.Add(r.Left)}
		} else {
			delete(h.stored, r.Key)
		}
		h.told++
		for w := range h.watchers {
			select {
			case w <- fleet.Record{Key: r.Key, Data: r.Data}:
			default:
				close(w)
				delete(h.watchers, w)
			}
		}
	}
	return forgotten, nil
}

// Watch implements fleet.Engine.
func (h *Hub) Watch(ctx context.Context, ready func(), take func(fleet.Record)) error {
	if err := h.fails(ctx); err != nil {
		return err
	}
	w := make(chan fleet.Record, 1000)
	h.mu.Lock()
	h.watchers[w] = true
	h.mu.Unlock()
	defer func() {
		h.mu.Lock()
		delete(h.watchers, w)
		h.mu.Unlock()
	}()
	ready()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case r, ok := <-w:
			if !ok {
				return errors.New("the hub has ended the watcher")
			}
			take(r)
		}
	}
}

// Snapshot implements fleet.Engine.
func (h *Hub) Snapshot(ctx context.Context) (records []fleet.Record, err error) {
	if err := h.fails(ctx); err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	for _, s := range h.stored {
		if left := s.until.Sub(now); left > 0 {
			s.Record.Left = left
			records = append(records, s.Record)
		}
	}
	return records, nil
}

var _ fleet.Engine = (*Hub)(nil)
