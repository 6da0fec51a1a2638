package failover

import (
	"strings"
	"testing"
)

// TestSLAOption checks the option, and that values out of range are errors.
func TestSLAOption(t *testing.T) {
	with := func(block string) string { return "failover {\n\tendpoint http://one\n\tsla " + block + "\n}" }
	for block, want := range map[string]string{
		"":                                 `"sla":{}`,
		"{\n\t\tavailability 99.9%\n\t}":   `"sla":{"availability":0.999}`,
		"{\n\t\tlatency p99.9 2s\n\t}":     `"sla":{"latency_quantile":0.999,"latency_target":2000000000}`,
		"{\n\t\twindow 7d\n\t}":            `"sla":{"window":604800000000000}`,
		"{\n\t\tavailability 100%\n\t}":    `error: availability 1: must be`,
		"{\n\t\twindow 41d\n\t}":           `error: window 984h0m0s: must be`,
		"{\n\t\tlatency 95 2s\n\t}":        `error: invalid latency quantile "95"`,
		"{\n\t\tlatency p100 2s\n\t}":      `error: invalid latency quantile "p100"`,
		"{\n\t\tlatency p95\n\t}":          `error: a value is missing`,
		"{\n\t\tfoo\n\t}":                  `error: unknown option foo of sla`,
		"{\n\t\twindow 7d\n\t\twindow 7d}": `error: `,
	} {
		config, err := tryAdapt("http://api.test {\n\t" + with(block) + "\n}")
		got := string(config)
		if err != nil {
			got = "error: " + err.Error()
		}
		want, fails := strings.CutPrefix(want, "error: ")
		if fails != (err != nil) || !strings.Contains(strings.ToLower(got), want) {
			t.Errorf("sla %q: got %s, want %s", block, got, want)
		}
	}
}
