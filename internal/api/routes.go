package api

import "time"

// Root is where the API lives under Caddy's admin endpoint.
const Root = "/failover/"

// StreamRetry is how soon a client should come back.
const StreamRetry = time.Second

// WarningField is the header that says what a report could not take in: one
// line for each thing.
const WarningField = "Failover-Warning"
