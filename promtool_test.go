//go:build system

package failover

import (
	"net/http"
	"os/exec"
	"strings"
	"testing"
)

// promtool runs promtool, Debian's package prometheus.
func promtool(t testing.TB, input string, args ...string) {
	t.Helper()
	cmd := exec.Command("promtool", args...)
	cmd.Stdin = strings.NewReader(input)
	if output, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, output)
	}
}

// TestPromtoolChecksTheMetrics scrapes a Caddy whose metrics all have values.
func TestPromtoolChecksTheMetrics(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	options := "\n\tsla {\n\t\tavailability 99.9%\n\t\tlatency p95 2s\n\t}\n\thealth {\n\t\turi /\n\t}"
	p := startCaddy(t, "metrics /metrics\n"+site(options, one, two))
	one.answer(http.StatusBadGateway)
	for range 10 {
		p.get("/")
	}
	_, text := p.scrape()
	promtool(t, text, "check", "metrics")
}

// TestPromtoolPlaysTheAlerts has promtool check the alerting rules, and play
// series through them.
func TestPromtoolPlaysTheAlerts(t *testing.T) {
	promtool(t, "", "check", "rules", "deploy/alerts.yml")
	promtool(t, "", "test", "rules", "deploy/alerts_test.yml")
}
