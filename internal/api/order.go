// Package api defines the types and routes of the admin API.
package api

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/apifailover/caddy-failover/internal/event"
	"github.com/apifailover/caddy-failover/internal/jsondoc"
)

// Actions that an operator can order for an endpoint, and the fields of the set action.
const (
	// Drain stops new attempts; those in flight finish. The breaker works on as before.
	Drain = "drain"
	// Trip forces the breaker open: the endpoint gets no attempts. When the trip ends, the
	// endpoint recovers gradually, as after an open period.
	Trip = "trip"
	// Enable ends a drain or a trip. With a duration, it forces the breaker closed for that
	// time.
	Enable = "enable"
	// Reset ends a drain or a trip, closes the breaker at once, and forgets relapses,
	// score, hold, and the usual latency.
	Reset = "reset"
	// Set overrides the configured weight or priority.
	Set = "set"

	Weight   = "weight"
	Priority = "priority"

	// InFleet and Here are where an order takes effect: at all instances of the fleet, or only
	// at the instance that gets it.
	InFleet = "fleet"
	Here    = "here"
	// AsConfigured restores the configured weight or priority.
	AsConfigured = "configured"
)

// A Change is an optional change of a setting: to a value, or back to the configured one. The
// zero value changes nothing.
type Change[T any] struct {
	Made  bool
	Value *T // nil means as configured
}

// An Order is an operator's order for an endpoint.
type Order struct {
	Action   string // drain, trip, enable, reset or set
	Reason   string
	Lasts    time.Duration   // 0 means until another order undoes it
	Where    string          // InFleet or Here; empty means InFleet if there is a fleet
	Weight   Change[float64] // set only
	Priority Change[int]     // set only
}

// Event returns the event of an order. Its details include the operator's reason.
func (o *Order) Event(endpoint string, inFlight int64, now time.Time) event.Event {
	details := map[string]any{}
	if o.Reason != "" {
		details["note"] = o.Reason
	}
	if o.Lasts > 0 {
		details["until"] = now.Add(o.Lasts)
	}
	if o.Action == Drain || o.Action == Trip {
		details["in_flight"] = inFlight
	}
	describeChange(details, Weight, o.Weight)
	describeChange(details, Priority, o.Priority)
	return event.Event{At: now, Kind: event.Operator, Endpoint: endpoint, Reason: o.Action, Details: details}
}

// describeChange adds a change to the details of an event.
func describeChange[T any](details map[string]any, name string, c Change[T]) {
	switch {
	case !c.Made:
	case c.Value == nil:
		details[name] = AsConfigured
	default:
		details[name] = *c.Value
	}
}

const (
	MaxReason = 500 // largest size of an operator's reason, in bytes
	// MaxLasts is the longest duration of an order.
	MaxLasts = 366 * 24 * time.Hour
)

// Actions are the actions that have a POST route for each endpoint.
var Actions = []string{Drain, Enable, Trip, Reset}

// ReadFields reads the fields from the body of a request. Each field may occur once.
func (o *Order) ReadFields(body []byte) error {
	switch err := jsondoc.Check(body, jsondoc.MaxDepth); {
	case err == jsondoc.ErrSyntax:
		var detail json.RawMessage
		return fmt.Errorf("body: want a JSON object: %w", cmp.Or(json.Unmarshal(body, &detail), err))
	case err != nil:
		return fmt.Errorf("body: want a JSON object: %w", err)
	case !jsondoc.IsObject(body):
		return fmt.Errorf("body: want a JSON object, not %s", shorten(body))
	}
	seen := make(map[string]bool)
	for name, value := range jsondoc.Members(body) {
		if seen[name] {
			return fmt.Errorf("%s: given twice", shorten([]byte(name)))
		}
		seen[name] = true
		if err := o.read(name, value); err != nil {
			return fmt.Errorf("%s: %w", shorten([]byte(name)), err)
		}
	}
	return nil
}

// read reads one field.
func (o *Order) read(name string, value json.RawMessage) error {
	switch {
	case name == "for" && o.Action != Reset:
		return readField(value, "a duration such as \"10m\"", func(text string) (err error) {
			o.Lasts, err = caddy.ParseDuration(text)
			switch {
			case err != nil:
				return fmt.Errorf("want a duration such as \"10m\", not %q", text)
			case o.Lasts <= 0:
				return errors.New("must be longer than 0")
			case o.Lasts > MaxLasts:
				return errors.New("must be at most a year; without it, the order has no end")
			}
			return nil
		})
	case name == "for":
		return errors.New("a reset has no duration")
	case name == "reason":
		return readField(value, "a string", func(text string) error {
			o.Reason = text
			if len(text) > MaxReason {
				return fmt.Errorf("must be at most %d bytes", MaxReason)
			}
			return nil
		})
	case name == "where":
		return readField(value, `"fleet" or "here"`, func(text string) error {
			if o.Where = text; text != InFleet && text != Here {
				return fmt.Errorf(`want "fleet" or "here", not %q`, text)
			}
			return nil
		})
	case name == Weight && o.Action == Set:
		return readChange(value, "a number or null", &o.Weight, func(weight float64) error {
			if want := WeightRange(weight); want != "" {
				return fmt.Errorf("must be %s", want)
			}
			return nil
		})
	case name == Priority && o.Action == Set:
		return readChange(value, "a whole number or null", &o.Priority, func(priority int) error {
			if priority < 1 {
				return errors.New("must be 1 or more")
			}
			return nil
		})
	case o.Action == Set:
		return errors.New("unknown field; known are weight, priority, for, reason and where")
	}
	return errors.New("unknown field; known are for, reason and where")
}

// Validate checks the fields in combination.
func (o *Order) Validate() error {
	switch {
	case o.Action != Set:
	case !o.Weight.Made && !o.Priority.Made:
		return errors.New("weight, priority: at least one of them is needed")
	case o.Lasts > 0 && o.Weight.Value == nil && o.Priority.Value == nil:
		return errors.New("for: needs a weight or a priority to set")
	}
	return nil
}

// readChange reads a change: a value that passes check, or null for the configured value.
func readChange[T any](value json.RawMessage, want string, into *Change[T], check func(T) error) error {
	into.Made = true
	if string(value) == "null" {
		return nil
	}
	return readField(value, want, func(v T) error {
		into.Value = &v
		return check(v)
	})
}

// readField decodes a value and passes it to take. null is an error.
func readField[T any](value json.RawMessage, want string, take func(T) error) error {
	var v T
	if string(value) == "null" {
		return fmt.Errorf("want %s, not null", want)
	}
	if err := json.Unmarshal(value, &v); err != nil {
		return fmt.Errorf("want %s, not %s", want, shorten(value))
	}
	return take(v)
}

// shorten returns the start of a text for an error message.
func shorten(text []byte) string {
	if len(text) <= 40 {
		return string(text)
	}
	return strings.ToValidUTF8(string(text[:40]), "") + "..."
}

// maxWeight keeps sums of weights far from infinity.
const maxWeight = math.MaxFloat32

// WeightRange returns the allowed range in words if weight is outside it, else "".
func WeightRange(weight float64) string {
	switch {
	case weight > maxWeight:
		return fmt.Sprintf("from 0 to %.2g", maxWeight)
	case !(weight >= 0):
		return "0 or more"
	}
	return ""
}
