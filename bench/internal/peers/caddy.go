package peers

import (
	"fmt"
	"strings"

	"github.com/apifailover/caddy-failover/bench/internal/client"
)

// caddyfile returns a whole Caddyfile around a site's directives. Global options may have several
// lines.
func caddyfile(at Listen, site string, global ...string) string {
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
	%s
}
%s://127.0.0.1:%d {
	bind 127.0.0.1
	%s
}
`, indent(strings.Join(global, "\n")), scheme, at.Port, indent(site))
}

// indent puts a tab before each line except the first.
func indent(text string) string {
	return strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n\t")
}

// stockRoundRobin configures Caddy without retries and checks.
func stockRoundRobin(at Listen, endpoints []string) string {
	return caddyfile(at, "reverse_proxy "+strings.Join(endpoints, " ")+" {\n\tlb_policy round_robin\n}")
}

// stockResilient configures Caddy with all its means against failing endpoints. Options of the
// transport may have several lines.
func stockResilient(at Listen, endpoints []string, policy string, transport ...string) string {
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
		`+strings.Join(transport, "\n\t\t")+`
	}
}`)
}

// failover returns the plugin's directive with options. An option may have several lines.
func failover(at Listen, options ...string) string {
	return caddyfile(at, directive(options))
}

// inFleet is failover for an instance of a fleet, whose engine the launcher knows.
func inFleet(at Listen, options ...string) string {
	return caddyfile(at, directive(options), "failover {\n\tfleet bench {\n\t\tredis redis://"+engineAddress+"\n\t}\n}")
}

func directive(options []string) string {
	return "failover {\n\t" + indent(strings.Join(options, "\n")) + "\n}"
}

// resilient returns the options of the plugin against failing endpoints, and more.
func resilient(endpoints string, more ...string) []string {
	return append([]string{endpoints, "timeout 1s\nidle_timeout 1s\nquota endpoint", meanings, commitComplete, retryAny, checkOften}, more...)
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

	withoutTrust = `transport http {
	tls_insecure_skip_verify
}`

	checkOften = `health {
	uri /health
	method GET
	interval 1s
	fast_interval 500ms
	timeout 1s
}`
)

// secured returns the addresses as https URLs.
func secured(endpoints []string) (urls []string) {
	for _, address := range endpoints {
		urls = append(urls, "https://"+address)
	}
	return urls
}

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

// securedEndpoints is orderedEndpoints over TLS.
func securedEndpoints(endpoints []string) string {
	return strings.ReplaceAll(orderedEndpoints(endpoints), "endpoint http:", "endpoint https:")
}
