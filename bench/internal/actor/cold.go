package actor

import (
	"net/http"
	"sync"
	"time"
)

// Cold serves calls up to its capacity and responds with 503 to the others. The capacity,
// in calls per second, starts at least and grows by growth each second up to most. A burst
// may use a quarter of a second's capacity. Checks always pass.
func Cold(least, growth, most float64) Behaviour {
	began := time.Now()
	c := &capacity{least: least, growth: growth, most: most, tokens: 1, began: began, last: began}
	return OnlyCalls(func(a *Actor, w http.ResponseWriter, r *http.Request, body []byte) {
		if !c.take(time.Now()) {
			a.fail(w, r, http.StatusServiceUnavailable)
			return
		}
		Well(a, w, r, body)
	})
}

// A capacity is a token bucket with a growing rate.
type capacity struct {
	least, most float64 // calls per second
	growth      float64 // calls per second, each second
	began       time.Time

	mu     sync.Mutex
	tokens float64
	last   time.Time
}

// take uses up capacity for a call at now, and reports whether there was enough.
func (c *capacity) take(now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	rate := min(c.most, c.least+c.growth*now.Sub(c.began).Seconds())
	c.tokens = min(rate/4, c.tokens+rate*now.Sub(c.last).Seconds())
	c.last = now
	if c.tokens < 1 {
		return false
	}
	c.tokens--
	return true
}
