package soak

import (
	"strings"
	"testing"
)

// quiet returns a trial whose counts agree. Of 100 calls, 90 were correct, 3 were
// WebSockets that were cut off, 2 failed, and 5 clients left, one of them late. One of 4
// failovers was a rescue.
func quiet() (*trial, poolView, slaView, sums) {
	t := newTrial(plainBuild, 1)
	t.Calls = Calls{Sent: 100, OK: 90, SocketsCut: 3, Explained: 2, Cancelled: 5}
	t.admin = &adminView{failovers: 4, rescued: 1}
	pool := poolView{Endpoints: []endpointView{{Name: "a", Attempts: 104, Successes: 94, Failures: 5, Cancelled: 5}}}
	var report slaView
	report.Total.Calls, report.Total.Failed, report.Total.Cancelled = 96, 2, 4
	return t, pool, report, parseMetrics(`caddy_failover_attempts_total{pool="soak",outcome="success"} 94
caddy_failover_attempts_total{pool="soak",outcome="status"} 5
caddy_failover_attempts_total{pool="soak",outcome="cancelled"} 5
caddy_failover_failovers_total{pool="soak",reason="rescued"} 1
caddy_failover_failovers_total{pool="soak",reason="status"} 3
caddy_failover_calls_total{pool="soak",outcome="success"} 94
caddy_failover_calls_total{pool="soak",outcome="status"} 2
caddy_failover_calls_total{pool="soak",outcome="cancelled"} 4
`)
}

// TestJudge checks that judging finds no problem if all counts agree, and finds one if any
// single count is off by one.
func TestJudge(t *testing.T) {
	for name, wrong := range map[string]func(*trial, *poolView, *slaView, sums){
		"":                     func(*trial, *poolView, *slaView, sums) {},
		"in flight":            func(_ *trial, p *poolView, _ *slaView, _ sums) { p.Endpoints[0].InFlight = 1 },
		"attempts":             func(_ *trial, p *poolView, _ *slaView, _ sums) { p.Endpoints[0].Attempts++ },
		"successes":            func(_ *trial, p *poolView, _ *slaView, _ sums) { p.Endpoints[0].Successes++ },
		"failures":             func(_ *trial, p *poolView, _ *slaView, _ sums) { p.Endpoints[0].Failures-- },
		"cancelled":            func(_ *trial, p *poolView, _ *slaView, _ sums) { p.Endpoints[0].Cancelled++ },
		"failovers by events":  func(t *trial, _ *poolView, _ *slaView, _ sums) { t.admin.failovers++ },
		"rescued by events":    func(t *trial, _ *poolView, _ *slaView, _ sums) { t.admin.rescued-- },
		"sent":                 func(t *trial, _ *poolView, _ *slaView, _ sums) { t.Calls.Sent++ },
		"good":                 func(t *trial, _ *poolView, _ *slaView, _ sums) { t.Calls.OK-- },
		"SLA calls":            func(_ *trial, _ *poolView, s *slaView, _ sums) { s.Total.Calls-- },
		"SLA failed":           func(_ *trial, _ *poolView, s *slaView, _ sums) { s.Total.Failed++ },
		"SLA cancelled":        func(_ *trial, _ *poolView, s *slaView, _ sums) { s.Total.Cancelled++ },
		"metric attempts":      func(_ *trial, _ *poolView, _ *slaView, m sums) { m["caddy_failover_attempts_total"]++ },
		"metric successes":     func(_ *trial, _ *poolView, _ *slaView, m sums) { m["caddy_failover_attempts_total success"]++ },
		"metric cancelled":     func(_ *trial, _ *poolView, _ *slaView, m sums) { m["caddy_failover_attempts_total cancelled"]-- },
		"metric failovers":     func(_ *trial, _ *poolView, _ *slaView, m sums) { m["caddy_failover_failovers_total"]-- },
		"metric rescued":       func(_ *trial, _ *poolView, _ *slaView, m sums) { m["caddy_failover_failovers_total rescued"]++ },
		"metric calls":         func(_ *trial, _ *poolView, _ *slaView, m sums) { m["caddy_failover_calls_total"]++ },
		"metric good calls":    func(_ *trial, _ *poolView, _ *slaView, m sums) { m["caddy_failover_calls_total success"]-- },
		"metric calls of left": func(_ *trial, _ *poolView, _ *slaView, m sums) { m["caddy_failover_calls_total cancelled"]++ },
	} {
		s, pool, report, metrics := quiet()
		wrong(s, &pool, &report, metrics)
		s.judgePool(pool)
		s.judgeSLA(report)
		s.judgeMetrics(metrics)
		if found := len(s.Problems) > 0; found != (name != "") {
			t.Errorf("%q: problems %s", name, strings.Join(s.Problems, "; "))
		}
	}
}
