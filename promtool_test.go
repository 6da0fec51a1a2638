//go:build system

package failover

import (
	"os/exec"
	"strings"
	"testing"
)

// promtool runs promtool, which is in Debian's package prometheus.
func promtool(t testing.TB, input string, args ...string) {
	t.Helper()
	cmd := exec.Command("promtool", args...)
	cmd.Stdin = strings.NewReader(input)
	if output, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, output)
	}
}

// TestPromtoolPlaysTheAlerts checks the alerting rules with promtool, and plays series through them.
func TestPromtoolPlaysTheAlerts(t *testing.T) {
	promtool(t, "", "check", "rules", "deploy/alerts.yml")
	promtool(t, "", "test", "rules", "deploy/alerts_test.yml")
}
