// Package event records events and delivers them.
package event

import "time"

// Kinds of events. They are also the names of the events in Caddy's events app.
const (
	Failover          = "failover"
	BreakerOpened     = "breaker_opened"
	BreakerRecovering = "breaker_recovering"
	BreakerClosed     = "breaker_closed"
	EndpointHeld      = "endpoint_held"
	AllDown           = "all_down"
	PoolUp            = "pool_up"
	IncidentOver      = "incident_over"
	SLABurning        = "sla_burning"
	SLAMetAgain       = "sla_met_again"
	Anomaly           = "anomaly"
	Operator          = "operator"
	Scheduled         = "scheduled"
	FleetLost         = "fleet_lost"
	FleetBack         = "fleet_back"
)

// FailingSince is the detail of BreakerOpened that says when the failures began, as a time.Time. Without
// it, that is unknown.
const FailingSince = "failing_since"

// Event is an event of a pool.
type Event struct {
	// Number of the event, counted from 1 over all pools of the process.
	ID uint64 `json:"id"`

	At   time.Time `json:"at"`
	Kind string    `json:"kind"`
	Pool string    `json:"pool"`

	// The endpoint that the event is about; for a failover, the endpoint that the call
	// left. Empty if the event is about the whole pool.
	Endpoint string `json:"endpoint,omitempty"`

	// The scope of calls that the event is about, where the pool has an option `scope`. Empty if
	// the event is about all calls.
	Scope string `json:"scope,omitempty"`

	// The endpoint that a failover went to.
	To string `json:"to,omitempty"`

	// The reason: for a failover, the outcome of the failed attempt; for a breaker, the
	// cause of its transition.
	Reason string `json:"reason,omitempty"`

	// The number of events that this one stands for. A pool sends at most one event a
	// second for each kind, endpoint, scope, destination and reason; the next one counts those
	// between.
	Count int `json:"count"`

	// The instance of the fleet that the event is of; absent in a list of one instance's events.
	Instance string `json:"instance,omitempty"`

	// The incident that the event belongs to; absent without one.
	Incident uint64 `json:"incident,omitempty"`

	// Details of the newest event that this one stands for. Values are text, numbers,
	// booleans and times.
	Details map[string]any `json:"details,omitempty"`
}
