package pool

import (
	"context"
	"fmt"
	"time"

	"github.com/apifailover/caddy-failover/internal/event"
	"github.com/apifailover/caddy-failover/internal/fleet"
)

const (
	// eventRate is how many events a second an instance of a small fleet tells, and eventBurst
	// how many at once; a large fleet tells fleetEvents a second in all.
	eventRate   = 10.0
	eventBurst  = 50.0
	fleetEvents = 200.0
)

// ShareEvents tells a fleet the events of this process until ctx ends. Those that come too fast
// are left out.
func ShareEvents(ctx context.Context, n *fleet.Node) {
	for ctx.Err() == nil {
		_, sub := event.Latest.Subscribe(0)
		shareFrom(ctx, n, sub)
		sub.Close()
	}
}

// shareFrom returns when the subscription ends.
func shareFrom(ctx context.Context, n *fleet.Node, sub *event.Subscription) {
	room, filled := eventBurst, time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case e, ok := <-sub.Events:
			if !ok {
				return
			}
			now := time.Now()
			rate := min(eventRate, fleetEvents/float64(n.Others(now)+1))
			room, filled = min(eventBurst, room+rate*now.Sub(filled).Seconds()), now
			if _, told := e.Details["from"]; told || e.Pool == "" || room < 1 {
				continue // it comes from another instance, or is not a pool's
			}
			room--
			n.Tell(factOf(&e, now), now)
		}
	}
}

// factOf returns the fact that tells of an event.
func factOf(e *event.Event, now time.Time) fleet.Fact {
	f := fleet.Fact{
		Kind: fleet.Event, Pool: e.Pool, Name: e.Endpoint, To: e.To, Reason: e.Reason, What: e.Kind, Count: e.Count,
		Version: e.ID, Age: max(0, now.Sub(e.At)),
	}
	for name, value := range e.Details {
		if f.Details == nil {
			f.Details = make(map[string]string)
		}
		switch v := value.(type) {
		case time.Time:
			f.Details[name] = v.UTC().Format(time.RFC3339)
		case float64:
			f.Details[name] = fmt.Sprintf("%.3g", v)
		default:
			f.Details[name] = fmt.Sprint(v)
		}
	}
	return f
}

// FleetNode returns the fleet of the process; nil: there is none.
func FleetNode() *fleet.Node {
	if f := common.Load(); f != nil {
		n, _ := (*f).(*fleet.Node)
		return n
	}
	return nil
}
