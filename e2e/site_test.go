package e2e

import (
	"fmt"
	"strings"
)

// site returns a failover directive with the pool api of these endpoints.
func site(options string, apis ...*api) string { return pooled("api", options, apis...) }

// pooled is site with another name of the pool.
func pooled(name, options string, apis ...*api) string {
	return edited(name, options, apis)
}

// edited is pooled with options for each endpoint. each may be shorter than apis.
func edited(name, options string, apis []*api, each ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "failover {\n\tname %s\n", name)
	for i, a := range apis {
		scheme, own := "http", ""
		if a.tls {
			scheme = "https"
		}
		if i < len(each) && each[i] != "" {
			own = "\t\t" + strings.ReplaceAll(each[i], "\n", "\n\t\t") + "\n"
		}
		fmt.Fprintf(&b, "\tendpoint %s://%s {\n\t\tname %s\n%s\t}\n", scheme, a.address, a.name, own)
	}
	if options = strings.TrimSpace(options); options != "" {
		b.WriteString("\t" + options + "\n")
	}
	b.WriteString("}")
	return b.String()
}

// keyed is site with a key for each endpoint, so that errors about a quota are about the endpoint's own.
func keyed(options string, apis ...*api) string {
	var each []string
	for _, a := range apis {
		each = append(each, fmt.Sprintf("header Authorization \"Bearer key-of-%s\"", a.name))
	}
	return edited("api", options, apis, each...)
}

// at limits a failover directive to the requests of a matcher.
func at(matcher, directive string) string {
	return strings.Replace(directive, "failover {", "failover "+matcher+" {", 1)
}

// placeholders adds the plugin's placeholders to the access log.
const placeholders = `log
log_append pool {http.failover.pool}
log_append endpoint {http.failover.endpoint}
log_append attempts {http.failover.attempts}
log_append outcome {http.failover.outcome}
`

// retrying allows retries of any method.
const retrying = `
	retry {
		methods any
	}`

// quick makes breakers try again after a second. Its timeout is long enough for a busy machine.
const quick = `
	timeout 30s
	breaker {
		open_for 1s
		open_max 1s
	}
	retry {
		attempts 3
		methods any
	}`

// evenIfSlow keeps the calls at endpoints that are slower for a while than they were, or than others of their tier. By
// default such an endpoint loses a part of them, and on a busy machine any may be that slow.
const evenIfSlow = "\n\tsla {\n\t\tlatency p95 1m\n\t}"

// slowToReopen keeps an open breaker open for longer than a test takes.
const slowToReopen = `
	breaker {
		open_for 60s
	}`
