package pool

import (
	"time"

	"github.com/apifailover/caddy-failover/internal/anomaly"
	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/event"
)

// A trend watches an endpoint over minutes and hours for anomalies: in its latency, failures and
// traffic, and in how often it goes out of service and comes back. Pool.Mu guards it.
type trend struct {
	detector anomaly.Detector
	serving  bool // the endpoint is in service
	known    bool // serving is known
}

// trends has the times of a pool's trends. Pool.Mu guards it.
type trends struct {
	next   time.Time // the end of this step
	called time.Time // the end of the last step with calls
}

// trendsFor is how long after the last call an idle pool still takes steps. It is long enough for the
// detectors to notice the end of traffic.
const trendsFor = 6 * time.Minute

// trendLocked passes changes of service to the detectors at once, and the tallies of all endpoints
// when a step is over. It appends the events of anomalies that begin or end. It needs Pool.Mu.
func (p *Pool) trendLocked(now time.Time, cfg *breaker.Config, collected []event.Event) []event.Event {
	over := p.stepOverLocked(now)
	var room [4]anomaly.Change
	for _, s := range p.awakeLocked() { // all, if over
		changes := room[:0]
		serving, forced, sample := s.TakeStep(cfg, over)
		t := &s.trend
		moved := t.known && serving != t.serving && !forced
		t.serving, t.known = serving, true
		if moved {
			changes = t.detector.StateChanged(changes, now)
		}
		if over {
			changes = t.detector.Add(changes, now, sample.Sample())
			if sample.Calls > 0 {
				p.trends.called = now
			}
		}
		if !moved && !over {
			continue
		}
		s.SetFlapping(t.detector.Flapping(now))
		for _, c := range changes {
			collected = append(collected, anomalyEvent(s.Name, c))
		}
	}
	if over {
		next := p.trends.next.Add(anomaly.Step)
		if next.Before(now) || next.Sub(now) > anomaly.Step {
			next = now.Add(anomaly.Step)
		}
		p.trends.next = next
	}
	return collected
}

// trendDue returns when an idle pool has to take its next step; zero: not before there are calls again.
func (p *Pool) trendDue(now time.Time) time.Time {
	p.Mu.Lock()
	defer p.Mu.Unlock()
	if p.trends.called.IsZero() || now.Sub(p.trends.called) >= trendsFor {
		return time.Time{}
	}
	return p.trends.next
}

// anomalyEvent returns the event of an anomaly that begins or ends. Its values are seconds (latency), a
// ratio (failure_ratio), calls a second (traffic) or changes in five minutes (flapping).
func anomalyEvent(endpoint string, c anomaly.Change) event.Event {
	return event.Event{
		At:       c.At,
		Kind:     event.Anomaly,
		Endpoint: endpoint,
		Reason:   c.Kind.String(),
		Details:  map[string]any{"began": c.Began, "settled": c.Settled, "expected": c.Expected, "seen": c.Seen},
	}
}
