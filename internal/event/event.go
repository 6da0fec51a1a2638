// Package event remembers what happened and hands it on.
package event

import "time"

// Kinds of events. They are also the names of events in Caddy's events app.
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
)

// Event is something that happened in a pool.
type Event struct {
	// Rises by one from event to event, over all pools of the process, from 1.
	ID uint64 `json:"id"`

	At   time.Time `json:"at"`
	Kind string    `json:"kind"`
	Pool string    `json:"pool"`

	// The endpoint that it happened to; of a failover, where the call came from.
	// Empty where it happened to the whole pool.
	Endpoint string `json:"endpoint,omitempty"`

	// Where a failover went.
	To string `json:"to,omitempty"`

	// Why: of a failover, the outcome of the attempt that failed; of a breaker,
	// what moved it.
	Reason string `json:"reason,omitempty"`

	// How many it stands for. Of a kind, endpoint, destination and reason at most
	// one event a second leaves a pool; those between are counted in the next.
	Count int `json:"count"`

	// The incident that it belongs to; absent where it belongs to none.
	Incident uint64 `json:"incident,omitempty"`

	// More of the newest that it stands for. Values are text, numbers, booleans
	// and times.
	Details map[string]any `json:"details,omitempty"`
}
