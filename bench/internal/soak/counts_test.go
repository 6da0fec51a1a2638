package soak

import (
	"fmt"
	"strings"
	"testing"
)

// quiet returns a verdict on counts that agree. Of 100 calls, 90 were correct, 3 were WebSockets
// that were cut off, 2 failed, and 5 clients left, one of them late and two while their request
// waited: one before any attempt, one after a failed one. One of 4 failovers was a rescue. One
// attempt asked an endpoint again after a wait.
func quiet() (*verdict, poolView, slaView, sums) {
	v := &verdict{pool: mixedPool, calls: Calls{Sent: 100, OK: 90, SocketsCut: 3, Explained: 1, Starved: 1, Cancelled: 5}, moves: moves{failovers: 4, rescued: 1}}
	pool := poolView{
		Endpoints: []endpointView{{Name: "a", Attempts: 104, Successes: 94, Failures: 7, Cancelled: 3,
			Scopes: []scopeView{{Scope: "one", Attempts: 100}, {Scope: "two", Attempts: 4}}}},
		Waiting: waitingView{LetIn: 7, Left: 2},
	}
	var report slaView
	report.Total.Calls, report.Total.Failed, report.Total.Cancelled = 96, 2, 4
	return v, pool, report, parseMetrics(`caddy_failover_attempts_total{pool="mixed",outcome="success"} 94
caddy_failover_attempts_total{pool="mixed",outcome="status"} 7
caddy_failover_attempts_total{pool="mixed",outcome="cancelled"} 3
caddy_failover_failovers_total{pool="mixed",reason="rescued"} 1
caddy_failover_failovers_total{pool="mixed",reason="status"} 3
caddy_failover_calls_total{pool="mixed",outcome="success"} 94
caddy_failover_calls_total{pool="mixed",outcome="status"} 2
caddy_failover_calls_total{pool="mixed",outcome="cancelled"} 4
caddy_failover_waits_total{pool="mixed",result="let_in"} 7
caddy_failover_waits_total{pool="mixed",result="left"} 2
`, mixedPool)
}

// TestJudge checks that judging finds no problem if all counts agree, and finds one if any
// single count is off by one.
func TestJudge(t *testing.T) {
	for name, wrong := range map[string]func(*verdict, *poolView, *slaView, sums){
		"":                    func(*verdict, *poolView, *slaView, sums) {},
		"in flight":           func(_ *verdict, p *poolView, _ *slaView, _ sums) { p.Endpoints[0].InFlight = 1 },
		"attempts":            func(_ *verdict, p *poolView, _ *slaView, _ sums) { p.Endpoints[0].Attempts++ },
		"successes":           func(_ *verdict, p *poolView, _ *slaView, _ sums) { p.Endpoints[0].Successes++ },
		"failures":            func(_ *verdict, p *poolView, _ *slaView, _ sums) { p.Endpoints[0].Failures-- },
		"cancelled":           func(_ *verdict, p *poolView, _ *slaView, _ sums) { p.Endpoints[0].Cancelled++ },
		"failovers by events": func(v *verdict, _ *poolView, _ *slaView, _ sums) { v.moves.failovers++ },
		"rescued by events":   func(v *verdict, _ *poolView, _ *slaView, _ sums) { v.moves.rescued-- },
		"sent":                func(v *verdict, _ *poolView, _ *slaView, _ sums) { v.calls.Sent++ },
		"good":                func(v *verdict, _ *poolView, _ *slaView, _ sums) { v.calls.OK-- },
		"scopes":              func(_ *verdict, p *poolView, _ *slaView, _ sums) { p.Endpoints[0].Scopes[1].Attempts-- },
		"waiting":             func(_ *verdict, p *poolView, _ *slaView, _ sums) { p.Waiting.Calls = 1 },
		"in vain": func(_ *verdict, p *poolView, _ *slaView, m sums) {
			p.Waiting.TimeOver++
			m["caddy_failover_waits_total time_over"]++
		},
		"turned away": func(_ *verdict, p *poolView, _ *slaView, m sums) {
			p.Waiting.TurnedAway++
			m["caddy_failover_waits_total turned_away"]++
		},
		"let in": func(_ *verdict, p *poolView, _ *slaView, _ sums) { p.Waiting.LetIn++ },
		"left waiting": func(_ *verdict, p *poolView, _ *slaView, m sums) {
			p.Waiting.Left++
			m["caddy_failover_waits_total left"]++
		},
		"metric waits":         func(_ *verdict, _ *poolView, _ *slaView, m sums) { m["caddy_failover_waits_total let_in"]++ },
		"SLA calls":            func(_ *verdict, _ *poolView, s *slaView, _ sums) { s.Total.Calls-- },
		"SLA failed":           func(_ *verdict, _ *poolView, s *slaView, _ sums) { s.Total.Failed++ },
		"SLA cancelled":        func(_ *verdict, _ *poolView, s *slaView, _ sums) { s.Total.Cancelled++ },
		"metric attempts":      func(_ *verdict, _ *poolView, _ *slaView, m sums) { m["caddy_failover_attempts_total"]++ },
		"metric successes":     func(_ *verdict, _ *poolView, _ *slaView, m sums) { m["caddy_failover_attempts_total success"]++ },
		"metric cancelled":     func(_ *verdict, _ *poolView, _ *slaView, m sums) { m["caddy_failover_attempts_total cancelled"]-- },
		"metric failovers":     func(_ *verdict, _ *poolView, _ *slaView, m sums) { m["caddy_failover_failovers_total"]-- },
		"metric rescued":       func(_ *verdict, _ *poolView, _ *slaView, m sums) { m["caddy_failover_failovers_total rescued"]++ },
		"metric calls":         func(_ *verdict, _ *poolView, _ *slaView, m sums) { m["caddy_failover_calls_total"]++ },
		"metric good calls":    func(_ *verdict, _ *poolView, _ *slaView, m sums) { m["caddy_failover_calls_total success"]-- },
		"metric calls of left": func(_ *verdict, _ *poolView, _ *slaView, m sums) { m["caddy_failover_calls_total cancelled"]++ },
	} {
		v, pool, report, metrics := quiet()
		var problems []string
		v.problem = func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
		wrong(v, &pool, &report, metrics)
		v.judgePool(pool)
		v.judgeSLA(report)
		v.judgeMetrics(metrics)
		v.judgeWaits(pool.Waiting, metrics)
		if found := len(problems) > 0; found != (name != "") {
			t.Errorf("%q: problems %s", name, strings.Join(problems, "; "))
		}
	}
}
