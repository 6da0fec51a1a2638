package pool

import (
	"context"
	"fmt"
	"math"
	"reflect"
	"time"

	"github.com/apifailover/caddy-failover/internal/event"
	"github.com/apifailover/caddy-failover/internal/fleet"
)

const (
	// An instance of a small fleet tells at most eventRate events a second, and eventBurst at once.
	// All instances of a large fleet together tell at most fleetEvents a second.
	eventRate   = 10.0
	eventBurst  = 50.0
	fleetEvents = 200.0
)

// ShareEvents tells a fleet the events of this process until ctx ends. It leaves out events above the
// rate.
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
				continue // the event is another instance's, or no pool's, or there are too many
			}
			room--
			n.Tell(factOf(&e, now), now)
		}
	}
}

// factOf returns the fact that tells of an event.
func factOf(e *event.Event, now time.Time) fleet.Fact {
	f := fleet.Fact{
		Kind: fleet.Event, Pool: e.Pool, Name: e.Endpoint, Scope: e.Scope, To: e.To, Reason: e.Reason, What: e.Kind,
		Count: e.Count, Version: e.ID, Age: max(0, now.Sub(e.At)), Incident: e.Incident,
	}
	for name, value := range e.Details {
		if f.Details == nil {
			f.Details = make(map[string]any)
		}
		if value, ok := detailOf(value); ok {
			f.Details[name] = value
		}
	}
	return f
}

// detailOf returns a detail of an event as a fact has it; its JSON is that of the event. ok is false for nothing, and
// for a number that JSON does not have.
func detailOf(value any) (detail any, ok bool) {
	if at, ok := value.(time.Time); ok {
		return at.Format(time.RFC3339Nano), true
	}
	switch v := reflect.ValueOf(value); {
	case v.Kind() == reflect.String:
		return v.String(), true
	case v.Kind() == reflect.Bool:
		return v.Bool(), true
	case v.CanInt():
		return float64(v.Int()), true
	case v.CanUint():
		return float64(v.Uint()), true
	case v.CanFloat():
		number := v.Float()
		return number, !math.IsNaN(number) && !math.IsInf(number, 0)
	}
	return fmt.Sprint(value), value != nil
}

// FleetNode returns the fleet of the process; nil: there is none.
func FleetNode() *fleet.Node {
	if f := common.Load(); f != nil {
		n, _ := (*f).(*fleet.Node)
		return n
	}
	return nil
}
