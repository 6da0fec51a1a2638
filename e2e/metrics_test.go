package e2e

import (
	"fmt"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestMetrics checks the metrics before and after reloads, good and failed, and that each is documented.
func TestMetrics(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	options := "\n\tsla {\n\t\tavailability 99.9%\n\t\tlatency p95 30s\n\t}\n\tbreaker {\n\t\tconsecutive_failures 2\n\t\topen_for 1m\n\t}"
	// a pool in two handlers, a second pool, and one with scopes
	sites := func() string {
		other := strings.Replace(strings.Replace(site("", two), "name api", "name \"other \\\"pool\\\"\"", 1), "failover {", "failover /other* {", 1)
		other = strings.Replace(other, "name two", "name two\n\t\tlimit 100 requests per 1m\n\t\tlimit 100000 tokens per 1m\n\t\tquota endpoint", 1)
		scoped := site("\n\tscope {query.kind}\n\tbreaker {\n\t\tconsecutive_failures 1\n\t\topen_for 1m\n\t}", one, two)
		scoped = strings.Replace(strings.Replace(scoped, "name api", "name scoped", 1), "failover {", "failover /scoped* {", 1)
		return "metrics /metrics\n" + scoped + "\n" + strings.Replace(site("", one, two), "failover {", "failover /more* {", 1) + "\n" + other + "\n" + site(options, one, two)
	}
	two.behave(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Ratelimit-Remaining", "7")
		two.fine(w, r)
	})
	p := startCaddyWith(t, fleetOfOne, sites())
	scrape := func() string { // from the site, because a failed configuration leaves its own metrics at the admin endpoint
		t.Helper()
		got := p.call(http.MethodGet, "/metrics", "")
		if got.status != http.StatusOK {
			t.Fatalf("/metrics answers %d: %s", got.status, got.body)
		}
		return got.body
	}
	p.get()
	p.call(http.MethodGet, "/more", "")
	p.call(http.MethodGet, "/other", "")
	one.answer(http.StatusBadGateway)
	for range 3 {
		p.get() // the second one opens the breaker
	}
	p.call(http.MethodGet, "/scoped?kind=ill", "")
	if err := p.loadWith(fleetOfOne, sites()); err != nil { // a start compares the pool with its objective
		t.Fatal(err)
	}
	eventually(t, "the SLA status has all calls", func() bool { s := p.pool("api").SLA; return s != nil && s.Calls == 5 })
	metricsAreDocumented(t, scrape())
	want := scraped{
		`caddy_failover_calls_total{outcome="success",pool="api"}`:                            5,
		`caddy_failover_calls_total{outcome="all_down",pool="api"}`:                           0,
		`caddy_failover_calls_total{outcome="success",pool="other \"pool\""}`:                 1,
		`caddy_failover_attempts_total{endpoint="one",outcome="success",pool="api"}`:          2,
		`caddy_failover_attempts_total{endpoint="one",outcome="status",pool="api"}`:           2,
		`caddy_failover_attempts_total{endpoint="two",outcome="success",pool="api"}`:          3,
		`caddy_failover_attempt_duration_seconds_count{endpoint="one",pool="api"}`:            4,
		`caddy_failover_attempt_duration_seconds_bucket{endpoint="one",pool="api",le="+Inf"}`: 4,
		`caddy_failover_failovers_total{from="one",pool="api",reason="status",to="two"}`:      2,
		`caddy_failover_breaker_state{endpoint="one",pool="api",state="open"}`:                1,
		`caddy_failover_breaker_state{endpoint="one",pool="api",state="closed"}`:              0,
		`caddy_failover_breaker_state{endpoint="two",pool="api",state="closed"}`:              1,
		`caddy_failover_endpoint_share{endpoint="one",pool="api"}`:                            0,
		`caddy_failover_endpoint_share{endpoint="two",pool="api"}`:                            1,
		`caddy_failover_scope_share{endpoint="one",pool="scoped",scope="ill"}`:                0,
		`caddy_failover_breaker_state{endpoint="one",pool="scoped",state="closed"}`:           1,
		`caddy_failover_pool_down{pool="api"}`:                                                0,
		`caddy_failover_retries_denied_total{pool="api"}`:                                     0,
		`caddy_failover_sla_objective_ratio{pool="api",sli="availability"}`:                   0.999,
		`caddy_failover_sla_achieved_ratio{pool="api",sli="availability"}`:                    1,
		`caddy_failover_sla_error_budget_left_ratio{pool="api",sli="latency"}`:                1,
		`caddy_failover_sla_burn_rate{pool="api",sli="availability",window="3d"}`:             0,
		`caddy_failover_sla_burning{pool="api",sli="availability"}`:                           0,
		`caddy_failover_health_checks_total{endpoint="one",pool="api",result="passed"}`:       0,
	}
	check := func(when string) {
		t.Helper()
		var samples scraped
		eventually(t, when+": all calls are counted", func() bool {
			samples = parseMetrics(t, scrape())
			return samples[`caddy_failover_calls_total{outcome="success",pool="api"}`] >= want[`caddy_failover_calls_total{outcome="success",pool="api"}`]
		})
		for name, value := range want {
			if got, ok := samples[name]; !ok || got != value {
				t.Errorf("%s: %s is %v (there: %v), want %v", when, name, got, ok, value)
			}
		}
		if t.Failed() {
			t.Fatal(scrape())
		}
	}
	check("before a reload")
	for i := range 3 {
		p.reload(sites() + fmt.Sprintf("\nheader X %d", i))
		check(fmt.Sprint("after reload ", i))
		p.get()
		want[`caddy_failover_calls_total{outcome="success",pool="api"}`]++
		want[`caddy_failover_attempts_total{endpoint="two",outcome="success",pool="api"}`]++
		check(fmt.Sprint("after a call after reload ", i))
	}
	if err := p.load(sites() + "\nbind unix//nowhere/x"); err == nil {
		t.Fatal("a bad configuration was loaded")
	}
	check("after a reload that failed")
	// the metrics of a removed endpoint or pool must go, because the configuration bounds the labels
	p.reload("metrics /metrics\n" + site("", two))
	eventually(t, "the removed endpoint and pool have no metrics", func() bool {
		text := scrape()
		return !strings.Contains(text, `endpoint="one"`) && !strings.Contains(text, `pool="other`)
	})
}

var metricName = regexp.MustCompile(`caddy_failover_[a-z_]+`)

// metricsAreDocumented looks up each metric that the dashboard, the alerts and the documentation name in a
// scrape, and wants each metric of the scrape documented.
func metricsAreDocumented(t *testing.T, text string) {
	t.Helper()
	exists := make(map[string]bool)
	for line := range strings.SplitSeq(text, "\n") {
		if rest, ok := strings.CutPrefix(line, "# TYPE "); ok && strings.HasPrefix(rest, "caddy_failover_") {
			name, kind, _ := strings.Cut(rest, " ")
			exists[name] = true
			if kind == "histogram" {
				for _, part := range []string{"_bucket", "_count", "_sum"} {
					exists[name+part] = true
				}
			}
		}
	}
	documented := make(map[string]bool)
	for _, file := range []string{"../deploy/grafana.json", "../deploy/alerts.yml", "../docs/metrics.md"} {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		names := metricName.FindAllString(string(content), -1)
		if len(names) == 0 {
			t.Errorf("%s names no metric", file)
		}
		for _, name := range names {
			if !exists[name] {
				t.Errorf("%s: there is no metric %s", file, name)
			}
			if file == "../docs/metrics.md" {
				documented[name] = true
			}
		}
	}
	for name := range exists {
		if !documented[name] && !slices.ContainsFunc([]string{"_bucket", "_count", "_sum"}, func(s string) bool { return strings.HasSuffix(name, s) }) {
			t.Errorf("docs/metrics.md does not name %s", name)
		}
	}
}
