package report

import (
	"fmt"
	"slices"

	"github.com/apifailover/caddy-failover/bench/internal/speed"
)

// speed writes what proxies cost with healthy endpoints.
func (p *page) speed(r speed.Report) error {
	p.ranOn(r.Machine)
	p.line(`
All endpoints are healthy and get equal traffic. In each round, every proxy in turn gets the same number of requests, as fast as it serves them; the order is random.
A third as many requests precede each turn and are not counted. CPU is the time of the whole process, by its CPU clock. Ratios are to %[1]sstock%[1]s in the same round, as the median
of all rounds. "95 %%" is the interval that holds this median in 95 %% of resamples of the proxies' lives, because the cost of a process depends a little on its layout in memory. "Quietest" is the ratio of the means of each proxy's cheapest quarter of rounds, because noise only adds cost. %[1]scontrol%[1]s is a second %[1]sstock%[1]s: the difference of its ratio from 1 is noise.
Bodies go in both directions. The client and the endpoints share the cores with the proxy, so requests per second alone say little. HTTP/2 is between client and proxy, with 8 concurrent requests
on a connection. TLS is TLS 1.3 with a P-256 certificate and the same cipher, chosen by the client, for all proxies. Tests with failing requests verify which requests each proxy sends again, and so which proxies can be compared.`, "`")
	if len(r.Tables) > 0 {
		var names []string
		for _, result := range r.Tables[0].Results {
			names = append(names, result.Proxy)
		}
		p.about(names, r.About)
	}
	seen := make(map[string]bool)
	for _, t := range r.Tables {
		p.line("\n## %s", heading(seen, t))
		how := ""
		if t.Together {
			how = fmt.Sprintf(" Each proxy had its turns at the same time as `%s`, so its requests per second are about half of what it can serve.", t.Results[0].Proxy)
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
	return nil
}

// heading names a table. A scenario that was measured twice is told apart by its lives.
func heading(seen map[string]bool, t speed.Table) string {
	name := t.Scenario.String()
	if seen[name] {
		name = fmt.Sprintf("%s, in %d lives", name, t.Lives)
	}
	seen[name] = true
	return name
}

// speedInShort writes the ratios of CPU and memory to those of the first proxy.
func (p *page) speedInShort(r speed.Report) error {
	p.ranOn(r.Machine)
	if len(r.Tables) == 0 {
		return nil
	}
	head := []string{"CPU per request"}
	for i, s := range r.Tables[0].Results {
		switch {
		case i == 0:
			s.Proxy += ", µs"
		case s.Proxy == "control":
			s.Proxy += " (noise)"
		}
		head = append(head, s.Proxy)
	}
	seen := make(map[string]bool)
	var cpu, memory [][]string
	for _, t := range r.Tables {
		name := heading(seen, t)
		c, m := []string{name}, []string{name}
		for _, proxy := range r.Tables[0].Results {
			i := slices.IndexFunc(t.Results, func(s speed.Result) bool { return s.Proxy == proxy.Proxy })
			switch {
			case i < 0:
				c, m = append(c, ""), append(m, "")
			case i == 0:
				c = append(c, fmt.Sprintf("%.0f", t.Results[i].CPU))
				m = append(m, fmt.Sprintf("%.0f", t.Results[i].Memory))
			default:
				c = append(c, fmt.Sprintf("%.2f", t.Results[i].CPURatio))
				m = append(m, fmt.Sprintf("%.0f", t.Results[i].Memory))
			}
		}
		cpu, memory = append(cpu, c), append(memory, m)
	}
	p.line("\nCPU per request: `%s` in µs, the others relative to it.", r.Tables[0].Results[0].Proxy)
	p.table(head, cpu)
	p.line("Peak memory in MiB.")
	head = slices.Clone(head)
	head[0], head[1] = "peak memory", r.Tables[0].Results[0].Proxy
	p.table(head, memory)
	return nil
}
