//go:build system

package e2e

import (
	"net/http"
	"os/exec"
	"strings"
	"testing"
)

// TestPromtoolChecksTheMetrics has promtool, of Debian's package prometheus, check the metrics of a pool with an SLA and
// health checks.
func TestPromtoolChecksTheMetrics(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	p := startCaddy(t, "metrics /metrics\n"+site("sla {\n\t\tavailability 99.9%\n\t\tlatency p95 2s\n\t}\n\thealth {\n\t\turi /\n\t}", one, two))
	one.answer(http.StatusBadGateway)
	p.gets(10)
	got := p.call(http.MethodGet, "/metrics", "")
	if got.status != http.StatusOK || !strings.Contains(got.body, "caddy_failover_attempts_total") {
		t.Fatalf("/metrics answers %d: %s", got.status, got.body)
	}
	check := exec.Command("promtool", "check", "metrics")
	check.Stdin = strings.NewReader(got.body)
	if output, err := check.CombinedOutput(); err != nil {
		t.Errorf("promtool check metrics: %v\n%s", err, output)
	}
}
