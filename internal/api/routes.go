package api

import "time"

// Root is the path of the API under Caddy's admin endpoint.
const Root = "/failover/"

// StreamRetry is the time after which a client of the stream should reconnect.
const StreamRetry = time.Second

// Every is the query parameter that sets the time between two messages of a stream of statuses.
const Every = "every"

// WarningField is the response header that names what a report leaves out, one value for each
// gap.
const WarningField = "Failover-Warning"
