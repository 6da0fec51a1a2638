package api

import "time"

// FleetStatus is what an instance knows of its fleet.
type FleetStatus struct {
	// The fleet's name, and the name of the instance that answers.
	Name     string `json:"name"`
	Instance string `json:"instance"`

	// Whether the engine is reachable, and the age of what the other instances know about this
	// one, in seconds.
	Connected bool    `json:"connected"`
	Lag       float64 `json:"lag_seconds"`

	// The instances that are in the fleet now: first the one that answers, then the others by name.
	Instances []InstanceStatus `json:"instances"`
}

// InstanceStatus is an instance of a fleet.
type InstanceStatus struct {
	Name string `json:"name"`

	// Whether it is the instance that answers.
	Self bool `json:"self"`

	// The plugin's version; absent if it is unknown.
	Release string `json:"release,omitempty"`

	// When the instance that answers first and last heard of it. Absent for itself.
	Since time.Time `json:"since,omitzero"`
	Seen  time.Time `json:"seen,omitzero"`

	// The endpoints whose breakers it has opened itself.
	Open []OpenStatus `json:"open"`
}

// OpenStatus is an endpoint that an instance has opened.
type OpenStatus struct {
	Pool     string `json:"pool"`
	Endpoint string `json:"endpoint"`

	// The scope of calls for which it is open; absent if it is open for all calls.
	Scope string `json:"scope,omitempty"`

	// open, or recovering after a successful trial.
	State string `json:"state"`

	// Why it opened.
	Reason string `json:"reason,omitempty"`
}
