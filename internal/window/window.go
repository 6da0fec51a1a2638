// Package window counts events over sliding time, in constant memory.
package window

import "time"

// buckets is the number of steps in which a window slides. A count covers between 90 % and
// 100 % of the span.
const buckets = 10

// Counts holds the number of events in a window, and how many of them are marked.
type Counts struct {
	Total, Marked int
}

// Ratio returns the marked part of the events, or 0 without events.
func (c Counts) Ratio() float64 {
	if c.Total == 0 {
		return 0
	}
	return float64(c.Marked) / float64(c.Total)
}

// Counter counts events over the last span. The zero value is an empty window. It is not
// safe for concurrent use.
//
// All calls on one Counter should pass the same span. A different span, for example after a
// configuration change, starts an empty window. If the clock jumps back, events count in
// the newest bucket until the clock has caught up: no event is lost or counted twice.
type Counter struct {
	span   time.Duration
	start  time.Time // start of the newest bucket
	newest int
	ring   [buckets]Counts
	sum    Counts
}

// Add counts one event at now.
func (c *Counter) Add(now time.Time, span time.Duration, marked bool) {
	c.slide(now, span)
	c.ring[c.newest].Total++
	c.sum.Total++
	if marked {
		c.ring[c.newest].Marked++
		c.sum.Marked++
	}
}

// AddMany counts n unmarked events at now.
func (c *Counter) AddMany(now time.Time, span time.Duration, n int) {
	c.slide(now, span)
	c.ring[c.newest].Total += n
	c.sum.Total += n
}

// Counts returns the events of the span that ends at now.
func (c *Counter) Counts(now time.Time, span time.Duration) Counts {
	c.slide(now, span)
	return c.sum
}

// Since returns when the first step of the span that ends at now began in which at least a ratio of the
// events is marked; now if there is none.
func (c *Counter) Since(now time.Time, span time.Duration, ratio float64) time.Time {
	c.slide(now, span)
	for i := buckets - 1; i >= 0; i-- {
		if b := c.ring[(c.newest+buckets-i)%buckets]; b.Marked > 0 && b.Ratio() >= ratio {
			return c.start.Add(-time.Duration(i) * span / buckets)
		}
	}
	return now
}

// TakeBack removes the newest marked event of the span that ends at now, if there is one.
func (c *Counter) TakeBack(now time.Time, span time.Duration) {
	c.slide(now, span)
	for i := range c.ring {
		b := &c.ring[(c.newest+buckets-i)%buckets]
		if b.Marked > 0 {
			b.Total--
			b.Marked--
			c.sum.Total--
			c.sum.Marked--
			return
		}
	}
}

// Reset removes all events.
func (c *Counter) Reset() { *c = Counter{} }

func (c *Counter) slide(now time.Time, span time.Duration) {
	if c.span != span || c.start.IsZero() {
		*c = Counter{span: span, start: now}
		return
	}
	width := span / buckets
	if width <= 0 {
		width = 1
	}
	passed := now.Sub(c.start)
	if passed < width {
		return
	}
	steps := int64(passed / width)
	if steps >= buckets {
		*c = Counter{span: span, start: now}
		return
	}
	c.start = c.start.Add(time.Duration(steps) * width)
	for ; steps > 0; steps-- {
		c.newest = (c.newest + 1) % buckets
		old := &c.ring[c.newest]
		c.sum.Total -= old.Total
		c.sum.Marked -= old.Marked
		*old = Counts{}
	}
}
