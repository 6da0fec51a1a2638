package soak

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/apifailover/caddy-failover/bench/internal/stats"
)

// Growth holds the number of goroutines and the live heap of the first instance: after the first load, as medians
// of the second and of the last quarter under load, and after the traffic has ended.
type Growth struct {
	GoroutinesBefore int     `json:"goroutines_before"`
	GoroutinesEarly  float64 `json:"goroutines_second_quarter"`
	GoroutinesLate   float64 `json:"goroutines_last_quarter"`
	GoroutinesAfter  int     `json:"goroutines_after"`
	HeapBefore       float64 `json:"heap_before_mib"`
	HeapEarly        float64 `json:"heap_second_quarter_mib"`
	HeapLate         float64 `json:"heap_last_quarter_mib"`
	HeapAfter        float64 `json:"heap_after_mib"`
}

// A size is the size of a process at one time.
type size struct {
	goroutines int
	heap       float64 // live MiB after a collection
}

// size reads the size of the process.
func (a *adminView) size() (goroutines int, heap float64, err error) {
	text, err := a.get("/debug/pprof/goroutine?debug=1")
	if err != nil {
		return 0, 0, err
	}
	if _, err := fmt.Sscanf(text, "goroutine profile: total %d", &goroutines); err != nil {
		return 0, 0, fmt.Errorf("reading the goroutine profile: %w", err)
	}
	if text, err = a.get("/debug/pprof/heap?gc=1&debug=1"); err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, "# HeapAlloc = "); ok {
			bytes, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			return goroutines, bytes / (1 << 20), err
		}
	}
	return goroutines, 0, fmt.Errorf("the heap profile does not say how large the heap is")
}

const viewEvery = time.Second

// watch follows events until quit. Unless lasting is 0, it measures the process about 60 times in
// that time.
func (l *life) watch(lasting time.Duration) {
	every := max(2*time.Second, lasting/60)
	next := time.Now()
	for {
		if err := l.admin.follow(); err != nil && !l.killed.Load() {
			l.problem("reading events: %v", err)
		}
		if lasting > 0 && !time.Now().Before(next) {
			next = time.Now().Add(every)
			if goroutines, heap, err := l.admin.size(); err != nil {
				l.problem("reading the size of the process: %v", err)
			} else {
				l.sizes = append(l.sizes, size{goroutines, heap})
			}
		}
		select {
		case <-l.quit:
			return
		case <-time.After(viewEvery):
		}
	}
}

// judgeGrowth compares the sizes under load, and those before and after it.
func (t *trial) judgeGrowth(sizes []size) {
	g := &t.Growth
	if quarter := len(sizes) / 4; quarter > 0 {
		goroutines := func(z size) float64 { return float64(z.goroutines) }
		heap := func(z size) float64 { return z.heap }
		early, late := sizes[quarter:2*quarter], sizes[len(sizes)-quarter:]
		g.GoroutinesEarly, g.GoroutinesLate = stats.Median(stats.Column(early, goroutines)), stats.Median(stats.Column(late, goroutines))
		g.HeapEarly, g.HeapLate = stats.Median(stats.Column(early, heap)), stats.Median(stats.Column(late, heap))
	}
	if g.GoroutinesAfter > g.GoroutinesBefore+15 {
		t.problem("goroutines: %d before, %d after", g.GoroutinesBefore, g.GoroutinesAfter)
	}
	if g.GoroutinesLate > 1.5*g.GoroutinesEarly+50 {
		t.problem("goroutines grow: %.0f in the second quarter, %.0f in the last", g.GoroutinesEarly, g.GoroutinesLate)
	}
	if g.HeapAfter > 1.3*max(g.HeapBefore, g.HeapEarly)+8 {
		t.problem("the heap grows: %.1f MiB before, %.1f in the second quarter, %.1f after", g.HeapBefore, g.HeapEarly, g.HeapAfter)
	}
}
