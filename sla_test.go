package failover

import (
	"strings"
	"testing"
)

// TestSLAOption reads the option, refuses what is out of range, and handlers of a
// pool that disagree.
func TestSLAOption(t *testing.T) {
	one := newAPI(t, "one")
	with := func(block string) string { return site("\n\tsla "+block, one) }
	for block, want := range map[string]string{
		"":                                 `"sla":{}`,
		"{\n\t\tavailability 99.9%\n\t}":   `"sla":{"availability":0.999}`,
		"{\n\t\tlatency p99.9 2s\n\t}":     `"sla":{"latency_quantile":0.999,"latency_target":2000000000}`,
		"{\n\t\twindow 7d\n\t}":            `"sla":{"window":604800000000000}`,
		"{\n\t\tavailability 100%\n\t}":    `error: availability 1: must be`,
		"{\n\t\twindow 41d\n\t}":           `error: window 984h0m0s: must be`,
		"{\n\t\tlatency 95 2s\n\t}":        `error: invalid latency quantile "95"`,
		"{\n\t\tlatency p100 2s\n\t}":      `error: invalid latency quantile "p100"`,
		"{\n\t\tlatency p95\n\t}":          `error: wrong argument count`,
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
	p := startCaddy(t, with(""))
	both := func(a, b string) string {
		return strings.Replace(with(a), "failover {", "failover /a* {", 1) + "\n" + with(b)
	}
	if err := p.load(both("{\n\t\tavailability 99%\n\t}", "{\n\t\tavailability 99.9%\n\t}")); err == nil || !strings.Contains(err.Error(), "different SLAs") {
		t.Errorf("handlers that disagree: %v", err)
	}
	if err := p.load(both("{\n\t\tavailability 99%\n\t}", "{\n\t\tavailability 99%\n\t\twindow 30d\n\t}")); err != nil {
		t.Errorf("handlers that agree: %v", err)
	}
	if o := runningPool(t, "api").Objective(); o.Availability != 0.99 {
		t.Errorf("the objective is %+v", o)
	}
}
