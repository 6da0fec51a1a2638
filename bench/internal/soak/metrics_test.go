package soak

import "testing"

func TestParseMetrics(t *testing.T) {
	got := parseMetrics(`# HELP caddy_failover_attempts_total Attempts.
# TYPE caddy_failover_attempts_total counter
caddy_failover_attempts_total{endpoint="a",outcome="success",pool="soak"} 3
caddy_failover_attempts_total{endpoint="b",outcome="success",pool="soak"} 1e+06
caddy_failover_attempts_total{endpoint="b",outcome="cancelled",pool="soak"} 2
caddy_failover_attempts_total{endpoint="b",outcome="success",pool="other"} 7
caddy_failover_failovers_total{from="a",pool="soak",reason="rescued",to="b"} 5
caddy_http_requests_total{pool="soak"} 9
caddy_failover_waits_total{pool="soak",result="left"} 4
caddy_failover_up 1
`, "soak")
	for name, want := range map[string]int{
		"attempts_total":           1000005,
		"attempts_total success":   1000003,
		"attempts_total cancelled": 2,
		"failovers_total":          5,
		"failovers_total rescued":  5,
		"waits_total left":         4,
		"up":                       0,
	} {
		if got.of(name) != want {
			t.Errorf("%s is %d, want %d", name, got.of(name), want)
		}
	}
}
