package sla

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// maxNames is the number of failover destinations that a history tells apart. maxEndpoints
// is the number of endpoints that a snapshot can hold.
const (
	maxNames     = 1 << 16
	maxEndpoints = 1 << 16
)

// History holds the series of a pool as its clients see it, one series for each endpoint,
// and the failovers between endpoints. All methods are safe for concurrent use. The zero
// value is empty and ready for use. Memory is bounded by the number of distinct names;
// [History.Prune] limits that number where endpoints come and go.
type History struct {
	pool Series

	mu        sync.RWMutex
	endpoints map[string]*Series
	names     []string // of destinations 1, 2, ...; 0 is any other
	numbers   map[string]uint64
	forgotten uint64 // calls of Forget
}

// Pool returns the series of the pool. It counts calls as clients see them.
func (h *History) Pool() *Series { return &h.pool }

// Endpoint returns the series of an endpoint, and creates it if there is none. The same
// name returns the same pointer until Forget or Prune drops it, so callers may keep the
// pointer.
func (h *History) Endpoint(name string) *Series {
	h.mu.RLock()
	s := h.endpoints[name]
	h.mu.RUnlock()
	if s != nil {
		return s
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if s = h.endpoints[name]; s == nil {
		s = new(Series)
		if h.endpoints == nil {
			h.endpoints = make(map[string]*Series)
		}
		h.endpoints[strings.Clone(name)] = s
	}
	return s
}

// Endpoints returns the names of all endpoints, sorted.
func (h *History) Endpoints() []string {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return slices.Sorted(maps.Keys(h.endpoints))
}

// Forget drops an endpoint. Outcomes recorded later into its series are lost.
func (h *History) Forget(name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.endpoints[name] != nil {
		delete(h.endpoints, name)
		h.forgotten++
	}
}

// Prune forgets endpoints for which used returns false until at most limit endpoints are
// left. It forgets the endpoint with the oldest last record first.
func (h *History) Prune(limit int, used func(name string) bool) {
	type idle struct {
		name string
		last int64
	}
	var unused []idle
	for name, s := range h.series() {
		if !used(name) {
			unused = append(unused, idle{name, s.lastStep()})
		}
	}
	if len(unused) <= limit {
		return
	}
	slices.SortFunc(unused, func(a, b idle) int {
		return cmp.Or(cmp.Compare(a.last, b.last), strings.Compare(a.name, b.name))
	})
	for _, i := range unused[:len(unused)-limit] {
		h.Forget(i.name)
	}
}

// RecordFailovers counts n calls that moved from one endpoint to another. A step counts 8
// destinations of an endpoint separately and the others together.
func (h *History) RecordFailovers(now time.Time, from, to string, n uint64) {
	h.Endpoint(from).failovers(now, h.number(to), n)
}

// Advance closes the finished steps of all series. See [Series.Advance].
func (h *History) Advance(now time.Time) {
	h.pool.Advance(now)
	for _, s := range h.series() {
		s.Advance(now)
	}
}

// Snapshot returns everything recorded up to now. It does not change h.
func (h *History) Snapshot(now time.Time) *Snapshot {
	s := &Snapshot{saved: now, until: forever, pool: h.pool.record(now), endpoints: map[string]record{}}
	for name, series := range h.series() {
		s.endpoints[name] = series.record(now)
	}
	// Copy the names after the series: the copy then has every name that the series use.
	h.mu.RLock()
	s.names = append([]string{""}, h.names...)
	h.mu.RUnlock()
	return s
}

// Restore adds the snapshot of an earlier process or of another instance. It leaves out
// steps later than now. Call it once for each snapshot: a second call counts everything
// twice.
func (h *History) Restore(now time.Time, s *Snapshot) {
	numbers := make([]uint64, len(s.names))
	same := true
	for i, name := range s.names {
		if i > 0 {
			numbers[i] = h.number(name)
		}
		same = same && numbers[i] == uint64(i)
	}
	if same {
		numbers = nil
	}
	h.pool.restore(now, s.saved, s.pool, numbers)
	for name, r := range s.endpoints {
		h.Endpoint(name).restore(now, s.saved, r, numbers)
	}
}

// series returns the series of all endpoints by name.
func (h *History) series() map[string]*Series {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return maps.Clone(h.endpoints)
}

// number returns the number of a destination, or 0 if there are too many destinations.
func (h *History) number(name string) uint64 {
	h.mu.RLock()
	n, ok := h.numbers[name]
	h.mu.RUnlock()
	if ok {
		return n
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if n, ok := h.numbers[name]; ok {
		return n
	}
	if len(h.names)+1 >= maxNames {
		return 0
	}
	name = strings.Clone(name)
	h.names = append(h.names, name)
	if h.numbers == nil {
		h.numbers = make(map[string]uint64)
	}
	h.numbers[name] = uint64(len(h.names))
	return uint64(len(h.names))
}
