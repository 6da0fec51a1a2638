package failover

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/apifailover/caddy-failover/internal/sla"
)

// scraped are the samples of a scrape by name and labels.
type scraped map[string]float64

// scrape reads /metrics and returns the samples of this package.
func (p *proxy) scrape() (scraped, string) {
	p.t.Helper()
	status, text := p.get("/metrics")
	if status != http.StatusOK {
		p.t.Fatalf("/metrics answers %d: %s", status, text)
	}
	samples := make(scraped)
	for line := range strings.SplitSeq(text, "\n") {
		if !strings.HasPrefix(line, "caddy_failover_") {
			continue
		}
		at := strings.LastIndexByte(line, ' ')
		value, err := strconv.ParseFloat(line[at+1:], 64)
		if err != nil {
			p.t.Fatalf("sample %q: %v", line, err)
		}
		if _, twice := samples[line[:at]]; twice {
			p.t.Errorf("sample %s is there twice", line[:at])
		}
		samples[line[:at]] = value
	}
	return samples, text
}

// TestMetrics scrapes a running Caddy before and after reloads.
func TestMetrics(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	options := "\n\tsla {\n\t\tavailability 99.9%\n\t\tlatency p95 2s\n\t}\n\tbreaker {\n\t\tconsecutive_failures 2\n\t\topen_for 1m\n\t}"
	// a pool in two handlers, and another one
	sites := func() string {
		other := strings.Replace(strings.Replace(site("", two), "name api", "name \"other \\\"pool\\\"\"", 1), "failover {", "failover /other* {", 1)
		return "metrics /metrics\n" + strings.Replace(site("", one, two), "failover {", "failover /more* {", 1) + "\n" + other + "\n" + site(options, one, two)
	}
	p := startCaddy(t, sites())
	p.get("/")
	p.get("/more")
	p.get("/other")
	one.answer(http.StatusBadGateway)
	for range 3 {
		p.get("/") // the second one opens the breaker
	}
	runningPool(t, "api").Keeping.Judge(runningPool(t, "api"), time.Now(), new(sla.Alert))
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
		var text string
		eventually(t, 2*time.Second, when+": all is settled", func() bool {
			samples, text = p.scrape()
			return samples[`caddy_failover_calls_total{outcome="success",pool="api"}`] >= want[`caddy_failover_calls_total{outcome="success",pool="api"}`]
		})
		for name, value := range want {
			if got, ok := samples[name]; !ok || got != value {
				t.Errorf("%s: %s is %v (there: %v), want %v", when, name, got, ok, value)
			}
		}
		if t.Failed() {
			t.Fatal(text)
		}
	}
	check("before a reload")
	for i := range 3 {
		if err := p.load(sites() + fmt.Sprintf("\nheader X %d", i)); err != nil {
			t.Fatal(err)
		}
		check(fmt.Sprint("after reload ", i))
		p.get("/")
		want[`caddy_failover_calls_total{outcome="success",pool="api"}`]++
		want[`caddy_failover_attempts_total{endpoint="two",outcome="success",pool="api"}`]++
		check(fmt.Sprint("after a call after reload ", i))
	}
	bad := strings.Replace(p.caddyfile(sites()), "bind unix/", "bind unix//nowhere", 1)
	if err := caddy.Load(adapt(t, bad), true); err == nil {
		t.Fatal("a bad configuration was loaded")
	}
	check("after a reload that failed")
	// labels are bounded by configuration: what is no longer in it is gone
	if err := p.load("metrics /metrics\n" + site("", two)); err != nil {
		t.Fatal(err)
	}
	eventually(t, 2*time.Second, "an endpoint and a pool that are gone have no metrics", func() bool {
		_, text := p.scrape()
		return !strings.Contains(text, `endpoint="one"`) && !strings.Contains(text, `pool="other`)
	})
}

var metricName = regexp.MustCompile(`caddy_failover_[a-z_]+`)

// TestDeployUsesMetricsThatExist looks up each metric that the dashboard, the
// alerts and the documentation name, and wants each metric documented.
func TestDeployUsesMetricsThatExist(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	one.behave(cut)
	limited := strings.Replace(site("\n\tsla {\n\t\tavailability 99.9%\n\t\tlatency p95 2s\n\t}", one, two), "name one", "name one\n\t\tlimit 100 requests per 1m", 1)
	p := startCaddy(t, "metrics /metrics\n"+limited)
	p.get("/")
	pool := runningPool(t, "api")
	pool.Keeping.Judge(pool, time.Now(), new(sla.Alert))
	_, text := p.scrape()
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
	for _, file := range []string{"deploy/grafana.json", "deploy/alerts.yml", "docs/metrics.md"} {
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
			if file == "docs/metrics.md" {
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

func TestGrafanaBoardHasAUID(t *testing.T) {
	board, err := os.ReadFile("deploy/grafana.json")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(board, []byte(`"uid"`)) {
		t.Error("the board has no uid")
	}
}
