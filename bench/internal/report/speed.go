package report

import (
	"fmt"

	"github.com/apifailover/caddy-failover/bench/internal/speed"
)

// speed writes what proxies cost while all is well.
func (p *page) speed(r speed.Report) error {
	p.line("\n## Speed")
	p.ranOn(r.Machine)
	p.line(`
While all is well, traffic in equal parts to all endpoints. In each round every proxy in turn, in an order drawn anew, gets the same number of requests
after a third as many that are not counted, as fast as it answers them. CPU is the time that the whole process has used, by its CPU clock. Ratios are to %[1]sstock%[1]s in the same round, the median
of all rounds; "95 %%" is where that median lies in 95 %% of resamples of the proxies' lives, as what a process costs depends a little on how it has come to lie in memory; "quietest" is the ratio of the means of each one's cheapest quarter of rounds, as noise only ever adds. The %[1]scontrol%[1]s is %[1]sstock%[1]s once more: what its ratio differs from 1 by is noise.
Bodies go both ways. The client and the endpoints run on the same cores, so requests a second say little alone. HTTP/2 is between client and proxy, 8 requests at a time
on a connection; over TLS it is TLS 1.3 with a P-256 certificate and the same cipher at all, which the client chooses. What a proxy sends again when an endpoint fails is tested with requests that fail: it says what can be compared with what.`, "`")
	if len(r.Tables) > 0 {
		var names []string
		for _, result := range r.Tables[0].Results {
			names = append(names, result.Proxy)
		}
		p.about(names, r.About)
	}
	for _, t := range r.Tables {
		p.line("\n### %s", t.Scenario)
		how := ""
		if t.Together {
			how = fmt.Sprintf(" Each proxy had its turns at the same time as `%s`, so its requests a second are about half of what it can do.", t.Results[0].Proxy)
		}
		lives := "one life"
		if t.Lives > 1 {
			lives = fmt.Sprintf("%d lives", t.Lives)
		}
		p.line("\n%d rounds of %d requests, in %s of the proxies.%s", t.Rounds, t.Requests, lives, how)
		var rows [][]string
		for _, s := range t.Results {
			rows = append(rows, []string{s.Proxy, fmt.Sprintf("%.1f µs", s.CPU), fmt.Sprintf("%.3f", s.CPURatio),
				fmt.Sprintf("%.3f to %.3f", s.CPUBetween[0], s.CPUBetween[1]), fmt.Sprintf("%.3f", s.CPUQuiet), fmt.Sprintf("%.0f", s.PerSecond),
				fmt.Sprintf("%.2f", s.RateRatio), fmt.Sprintf("%.2f ms", s.P50), fmt.Sprintf("%.2f ms", s.P99), fmt.Sprintf("%.0f MiB", s.Memory)})
		}
		p.table([]string{"", "CPU/request", "ratio", "95 %", "quietest", "requests/s", "ratio", "p50", "p99", "peak memory"}, rows)
	}
	p.line("Better here: HAProxy and nginx, written in C, need a fraction of the CPU and memory of any Caddy for small bodies. The plugin cannot change that; what it adds to Caddy is the ratio above.")
	return nil
}
