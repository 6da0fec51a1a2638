package peers

import (
	"fmt"
	"strings"

	"github.com/apifailover/caddy-failover/bench/internal/client"
)

// caddyfile returns a whole Caddyfile around a site's directives.
func caddyfile(at Listen, site string) string {
	scheme := "http"
	if at.Protocol == client.H2TLS {
		scheme = "https"
		site = "tls {{dir}}/cert.pem {{dir}}/key.pem\n" + site
	}
	return fmt.Sprintf(`{
	admin off
	persist_config off
	auto_https off
	grace_period 1s
	log {
		output discard
		level PANIC
	}
	servers {
		protocols h1 h2 h2c
	}
}
%s://127.0.0.1:%d {
	bind 127.0.0.1
	%s
}
`, scheme, at.Port, indent(site))
}

// indent puts a tab before each line except the first.
func indent(text string) string {
	return strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n\t")
}

// stockRoundRobin configures Caddy without retries and checks.
func stockRoundRobin(at Listen, endpoints []string) string {
	return caddyfile(at, "reverse_proxy "+strings.Join(endpoints, " ")+" {\n\tlb_policy round_robin\n}")
}

// stockResilient configures Caddy with all its means against failing endpoints.
func stockResilient(at Listen, endpoints []string, policy string) string {
	return caddyfile(at, "reverse_proxy "+strings.Join(endpoints, " ")+` {
	lb_policy `+policy+`
	lb_retries 3
	lb_retry_match {
		expression `+"`{rp.status_code} in [429, 500, 502, 503, 504] || {rp.is_transport_error}`"+`
	}
	fail_duration 5s
	max_fails 1
	unhealthy_status 429 5xx
	unhealthy_latency 500ms
	health_uri /health
	health_interval 1s
	health_timeout 1s
	health_fails 2
	health_passes 2
	request_buffers 1048577 # a body that fills it counts as larger, and is sent once
	transport http {
		dial_timeout 1s
		response_header_timeout 1s
	}
}`)
}

// failover returns the plugin's directive with options. An option may have several lines.
func failover(at Listen, options ...string) string {
	return caddyfile(at, "failover {\n\t"+indent(strings.Join(options, "\n"))+"\n}")
}

// Options of the directive.
const (
	commitComplete = "commit complete"

	meanings = `answer 200 json error as failure
next_on 404 model_not_found`

	retryAny = `retry {
	methods any
}`

	checkEverySecond = `health {
	uri /health
	method GET
	interval 1s
}`

	checkOften = `health {
	uri /health
	method GET
	interval 1s
	fast_interval 500ms
	timeout 1s
}`
)

// equalEndpoints returns endpoints of equal priority.
func equalEndpoints(endpoints []string) string {
	return strings.TrimSpace(lines(endpoints, func(_ int, address string) string {
		return "endpoint http://" + address + " {\n\tpriority 1\n}"
	}))
}

// orderedEndpoints returns endpoints in order of preference.
func orderedEndpoints(endpoints []string) string {
	return strings.TrimSpace(lines(endpoints, func(_ int, address string) string {
		return "endpoint http://" + address
	}))
}
