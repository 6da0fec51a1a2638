package peers

import (
	"strings"

	"github.com/apifailover/caddy-failover/bench/internal/payload"
)

// ForSpeed returns the peers that are compared while all is well. They send equal
// parts to all endpoints. The first is the one that the others are compared with.
func ForSpeed() []Peer {
	return []Peer{{
		Name:    "stock",
		About:   "Caddy, `lb_policy round_robin`, no checks, no retries",
		Program: Caddy,
		Config:  stockRoundRobin,
	}, {
		Name:    "control",
		About:   "the same as stock: how far its ratio is from 1 is what the machine's noise comes to",
		Program: Caddy,
		Config:  stockRoundRobin,
	}, {
		Name:    "stock+",
		About:   "Caddy, `round_robin` with retries on statuses and transport errors for every method, passive and active checks, and `request_buffers`, without which a body is gone after the first attempt",
		Program: Caddy,
		Resends: payload.MaxSize,
		Config: func(at Listen, endpoints []string) string {
			return stockResilient(at, endpoints, "round_robin")
		},
	}, {
		Name:    "failover",
		About:   "the `failover` directive, all defaults, equal priorities",
		Program: Caddy,
		Config: func(at Listen, endpoints []string) string {
			return failover(at, equalEndpoints(endpoints))
		},
	}, {
		Name:    "failover=",
		About:   "the `failover` directive with `methods any` and checks: what compares with stock+, as both send a POST with a body of up to 1 MiB again",
		Program: Caddy,
		Resends: payload.MaxSize,
		Config: func(at Listen, endpoints []string) string {
			return failover(at, equalEndpoints(endpoints), retryAny, checkEverySecond)
		},
	}, {
		Name:    "failover+",
		About:   "failover= with whole answers (`commit complete`): an answer of up to 1 MiB that breaks off is asked for elsewhere too, which none of the other proxies does",
		Program: Caddy,
		Resends: payload.MaxSize,
		Config: func(at Listen, endpoints []string) string {
			return failover(at, equalEndpoints(endpoints), commitComplete, retryAny, checkEverySecond)
		},
	}, {
		Name:    "policy",
		About:   "stock `reverse_proxy` with `lb_policy failover`, equal priorities",
		Program: Caddy,
		Config: func(at Listen, endpoints []string) string {
			return caddyfile(at, "reverse_proxy "+strings.Join(endpoints, " ")+" {\n\tlb_policy failover {\n"+
				lines(endpoints, func(_ int, address string) string {
					return "\t\tupstream " + address + " {\n\t\t\tpriority 1\n\t\t}"
				})+"\t}\n}")
		},
	}, {
		Name:    "HAProxy",
		About:   "`balance roundrobin`, retries on responses for every method, checks; what it sends again has to fit into its buffer, here 16 KiB, so larger bodies are sent once",
		Program: HAProxy,
		Resends: haproxyBuffer - 2<<10, // less its reserve and a header
		Config: func(at Listen, endpoints []string) string {
			return haproxyConfig(at, endpoints, "balance roundrobin")
		},
	}, {
		Name:    "nginx",
		About:   "round robin, `proxy_next_upstream` for every method, `max_fails`; bodies of any size are buffered and sent again",
		Program: NGINX,
		Resends: payload.MaxSize,
		Config: func(at Listen, endpoints []string) string {
			return nginxConfig(at, endpoints, false)
		},
	}}
}

// ForFaults returns the peers that are compared while endpoints fail: the first
// endpoint is primary, the others are backups, and a peer waits a second for an
// answer. The first peer is this plugin.
func ForFaults() []Peer {
	return []Peer{{
		Name:    "failover",
		About:   "this plugin: the directive with `timeout 1s`, `methods any`, `quota endpoint`, `commit complete`, checks every second (every half while an endpoint is out)",
		Program: Caddy,
		Resends: payload.MaxSize,
		Config: func(at Listen, endpoints []string) string {
			return failover(at, orderedEndpoints(endpoints), "timeout 1s\nquota endpoint", commitComplete, retryAny, checkOften)
		},
	}, {
		Name:    "Caddy",
		About:   "stock: `first`, `max_fails 1`, passive and active checks, 3 retries on statuses and transport errors, buffered bodies",
		Program: Caddy,
		Resends: payload.MaxSize,
		Config: func(at Listen, endpoints []string) string {
			return stockResilient(at, endpoints, "first")
		},
	}, {
		Name:    "HAProxy",
		About:   "`balance first`, `retry-on all-retryable-errors`, `option redispatch 1`, checks every second, `observe layer7`",
		Program: HAProxy,
		Resends: haproxyBuffer - 2<<10,
		Config: func(at Listen, endpoints []string) string {
			return haproxyConfig(at, endpoints, "balance first")
		},
	}, {
		Name:    "nginx",
		About:   "`backup` servers, `proxy_next_upstream` on everything, also for POST, `max_fails`",
		Program: NGINX,
		Resends: payload.MaxSize,
		Config: func(at Listen, endpoints []string) string {
			return nginxConfig(at, endpoints, true)
		},
	}}
}
