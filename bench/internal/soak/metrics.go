package soak

import (
	"fmt"
	"strconv"
	"strings"
)

// sums holds a pool's metrics, added up by name, and by name and outcome, reason or result as in
// "caddy_failover_attempts_total success".
type sums map[string]float64

func (s sums) of(name string) int { return int(s["caddy_failover_"+name]) }

// metrics reads the sums of a pool.
func (a *adminView) metrics(pool string) (sums, error) {
	text, err := a.get("/metrics")
	if err != nil {
		return nil, fmt.Errorf("reading metrics: %w", err)
	}
	return parseMetrics(text, pool), nil
}

// parseMetrics parses Prometheus's text format.
func parseMetrics(text, pool string) sums {
	s := make(sums)
	for line := range strings.Lines(text) {
		name, rest, ok := strings.Cut(line, "{")
		if !ok || !strings.HasPrefix(name, "caddy_failover_") || !strings.Contains(rest, `pool="`+pool+`"`) {
			continue
		}
		labels, value, ok := strings.Cut(rest, "} ")
		number, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
		if !ok || err != nil {
			continue
		}
		s[name] += number
		for _, label := range []string{`outcome="`, `reason="`, `result="`} {
			if _, value, ok := strings.Cut(labels, label); ok {
				value, _, _ = strings.Cut(value, `"`)
				s[name+" "+value] += number
			}
		}
	}
	return s
}
