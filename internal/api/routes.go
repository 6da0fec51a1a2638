package api

import "time"

// Root is the path of the API under Caddy's admin endpoint.
const Root = "/failover/"

// StreamRetry is the time after which a client of the stream should reconnect.
const StreamRetry = time.Second

// Every is the parameter with the time between two messages of a stream of statuses.
const Every = "every"

// WarningField is the header with warnings about a report, one line for each thing that the
// report leaves out.
const WarningField = "Failover-Warning"
