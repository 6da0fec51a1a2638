package peers

import (
	"strings"

	"github.com/apifailover/caddy-failover/bench/internal/payload"
)

// ForSpeed returns the peers to compare with healthy endpoints. They spread requests
// evenly. The first one is the reference.
func ForSpeed() []Peer {
	return []Peer{{
		Name:    "stock",
		About:   "Caddy, `lb_policy round_robin`, no checks, no retries",
		Program: Caddy,
		Config:  stockRoundRobin,
	}, {
		Name:    "control",
		About:   "the same as stock: the difference of its ratio from 1 is noise of the machine",
		Program: Caddy,
		Config:  stockRoundRobin,
	}, {
		Name:    "stock+",
		About:   "Caddy, `round_robin` with retries on statuses and transport errors for every method, passive and active checks, and `request_buffers`, without which a body is lost after the first attempt",
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
		About:   "the `failover` directive with `methods any` and checks. It compares with stock+: both retry a POST with a body of up to 1 MiB",
		Program: Caddy,
		Resends: payload.MaxSize,
		Config: func(at Listen, endpoints []string) string {
			return failover(at, equalEndpoints(endpoints), retryAny, checkEverySecond)
		},
	}, {
		Name:    "failover+",
		About:   "failover= with complete responses (`commit complete`): it also retries if a response of up to 1 MiB breaks off, which none of the other proxies does",
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
		About:   "`balance roundrobin`, retries on responses for every method, checks. A retried request must fit its buffer, here 16 KiB, so larger bodies are sent once",
		Program: HAProxy,
		Resends: haproxyBuffer - 2<<10, // minus its reserve and a header
		Config: func(at Listen, endpoints []string) string {
			return haproxyConfig(at, endpoints, "balance roundrobin")
		},
	}, {
		Name:    "nginx",
		About:   "round robin, `proxy_next_upstream` for every method, `max_fails`; it buffers and retries bodies of any size",
		Program: NGINX,
		Resends: payload.MaxSize,
		Config: func(at Listen, endpoints []string) string {
			return nginxConfig(at, endpoints, false)
		},
	}, {
		Name:    "Portkey",
		About:   "Portkey's gateway for LLM APIs, on node: `loadbalance` over targets with `custom_host`, no retries; it reads and writes the JSON of each body. Only over HTTP/1.1, and with up to 30 endpoints, because each request carries the configuration",
		Program: Portkey,
		Most:    portkeyMost,
		Asks:    portkeyAsk,
		Config:  func(Listen, []string) string { return "" },
	}}
}

// ForFaults returns the peers to compare while endpoints fail. The first endpoint is the
// primary, the others are backups, and a peer waits one second for a response. The first
// peer is this plugin.
func ForFaults() []Peer {
	return []Peer{{
		Name:    "failover",
		About:   "this plugin: the directive with `timeout 1s`, `methods any`, `quota endpoint`, `commit complete`, `idle_timeout 1s`, what JSON errors mean (`answer`, `next_on`), checks every second (every half second while an endpoint is out)",
		Program: Caddy,
		Resends: payload.MaxSize,
		Config: func(at Listen, endpoints []string) string {
			return failover(at, resilient(orderedEndpoints(endpoints))...)
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
		About:   "`backup` servers, `proxy_next_upstream` for every failure, also for POST, `max_fails`",
		Program: NGINX,
		Resends: payload.MaxSize,
		Config: func(at Listen, endpoints []string) string {
			return nginxConfig(at, endpoints, true)
		},
	}}
}

// Scoped returns the plugin of ForFaults with a scope, to be compared with it.
func Scoped(scope string) Peer {
	return Peer{
		Name:    "failover with " + scope,
		About:   "failover with `" + scope + "`",
		Variant: true,
		Program: Caddy,
		Resends: payload.MaxSize,
		Config: func(at Listen, endpoints []string) string {
			return failover(at, resilient(orderedEndpoints(endpoints), scope)...)
		},
	}
}

// InFleet returns the plugin of ForFaults as an instance of a fleet, to be compared with it.
func InFleet() Peer {
	return Peer{
		Name:    "failover in a fleet",
		About:   "failover in a fleet of one instance, whose engine is a Redis server",
		Variant: true,
		Program: Caddy,
		Resends: payload.MaxSize,
		Config: func(at Listen, endpoints []string) string {
			return inFleet(at, resilient(orderedEndpoints(endpoints))...)
		},
	}
}

// ForHTTP2 returns the peers of ForFaults for endpoints that speak HTTP/2 over TLS. Those that
// cannot speak it say so.
func ForHTTP2() []Peer {
	all := ForFaults()
	configs := map[string]func(Listen, []string) string{
		"failover": func(at Listen, endpoints []string) string {
			return failover(at, resilient(securedEndpoints(endpoints), withoutTrust)...)
		},
		"Caddy": func(at Listen, endpoints []string) string {
			return stockResilient(at, secured(endpoints), "first", "tls_insecure_skip_verify")
		},
		"HAProxy": func(at Listen, endpoints []string) string {
			return haproxyConfig(at, endpoints, "balance first", "ssl verify none alpn h2 check-alpn http/1.1")
		},
	}
	for i := range all {
		if all[i].Config = configs[all[i].Name]; all[i].Config == nil {
			all[i].Cannot = "it speaks only HTTP/1 to endpoints"
		}
	}
	return all
}
