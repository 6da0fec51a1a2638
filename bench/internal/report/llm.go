package report

import (
	"fmt"
	"strings"

	"github.com/apifailover/caddy-failover/bench/internal/llm"
)

// llm writes the verdicts on each fault of LLM APIs, and what each gateway costs.
func (p *page) llm(r llm.Report) error {
	p.ranOn(r.Machine)
	p.line(`
The sixteen faults of the public [Failover Bench](https://github.com/failoverbench/failoverbench) catalogue, methodology v0.1, played by our own harness. A fake provider fails by the model that it
is asked for; the fallback is the same provider under another model. Each system is one process and gets all models in a row, so that one model's fault can harm the next one's request. The verdicts are the catalogue's: **pass** (the client has
the whole answer, or the refusal where that is right, and all checks hold), **partial** (the same, but an advisory check failed), **safe** (a clean error in time), **fail** (a hang, a
truncated answer that looks like a success, or a required check that failed). "1p/1f" are the attempts that the provider saw for the primary and for the fallback model. The durations are those of the catalogue's profile %q.`,
		profile(r))
	var names []string
	about := make(map[string]string)
	for _, s := range r.Systems {
		names = append(names, s.Name)
		about[s.Name] = s.About
	}
	p.about(names, about)
	for _, stream := range []bool{true, false} {
		title := "Streaming"
		if !stream {
			title = "Without streaming"
		}
		p.line("\n## %s", title)
		var rows [][]string
		for i, one := range results(r.Systems[0], stream) {
			row := []string{one.ID + " " + one.Title}
			for _, s := range r.Systems {
				row = append(row, cell(results(s, stream)[i]))
			}
			rows = append(rows, row)
		}
		p.table(append([]string{"fault"}, names...), rows)
	}
	p.line("\n## Official clients\n\nWhole answers (and the refusal of S13) that programs with the npm clients of OpenAI and Anthropic get, without retries of their own, for the fifteen faults other than S15.")
	p.clients(r)
	p.line("\n## Cost\n\nCompletions without streaming, a prompt of 2 KiB, a provider that is well, 32 connections. Each system was measured alone.")
	p.costs(r)
	return nil
}

// llmInShort writes how many verdicts of each kind there are.
func (p *page) llmInShort(r llm.Report) error {
	p.ranOn(r.Machine)
	var rows [][]string
	for _, s := range r.Systems {
		rows = append(rows, []string{s.Name, verdicts(s.Stream), verdicts(s.Plain), right(s, true), right(s, false)})
	}
	p.table([]string{"pass / partial / safe / fail of 16", "streaming", "without", "official clients, streaming", "without"}, rows)
	p.costs(r)
	p.line("\n### Where another gateway does better\n")
	none := true
	for _, s := range r.Systems[1:] {
		if strings.HasPrefix(s.Name, "failover") {
			continue
		}
		for _, stream := range []bool{true, false} {
			for i, ours := range results(best(r), stream) {
				if theirs := results(s, stream)[i]; rank(theirs.Verdict) < rank(ours.Verdict) {
					p.line("- %s %s, streaming %t: %s %s; `commit complete`: %s", ours.ID, ours.Title, stream, s.Name, theirs.Verdict, cell(ours))
					none = false
				}
			}
		}
	}
	if none {
		p.line("Nowhere in this run.")
	}
	return nil
}

// best returns the system with `commit complete` and no other option, else the first.
func best(r llm.Report) llm.System {
	for _, s := range r.Systems {
		if s.Name == "failover complete" {
			return s
		}
	}
	return r.Systems[0]
}

// rank orders verdicts; lower is better.
func rank(verdict string) int {
	return map[string]int{"pass": 0, "partial": 1, "safe": 2, "fail": 3}[verdict]
}

func results(s llm.System, stream bool) []llm.Result {
	if stream {
		return s.Stream
	}
	return s.Plain
}

// profile names the catalogue's profile.
func profile(r llm.Report) string {
	if r.Machine.Short {
		return "fast"
	}
	return "full"
}

func cell(r llm.Result) string {
	text := fmt.Sprintf("%s, %dp/%df, %.1f s", r.Verdict, r.Primary, r.Fallback, r.Took)
	if r.Verdict == "partial" || r.Verdict == "fail" {
		text += ", " + strings.ReplaceAll(r.Why, "_", " ")
	}
	return text
}

func verdicts(list []llm.Result) string {
	return fmt.Sprintf("%d / %d / %d / %d", llm.Count(list, "pass"), llm.Count(list, "partial"), llm.Count(list, "safe"), llm.Count(list, "fail"))
}

// right returns how many answers the clients of all APIs got whole.
func right(s llm.System, stream bool) string {
	n, of := 0, 0
	for _, c := range s.Clients {
		if c.Stream == stream {
			n += c.Right
			of += c.Of
		}
	}
	return fmt.Sprintf("%d of %d", n, of)
}

func (p *page) clients(r llm.Report) {
	var rows [][]string
	for _, s := range r.Systems {
		for _, c := range s.Clients {
			how := "whole"
			if c.Stream {
				how = "streaming"
			}
			rows = append(rows, []string{fmt.Sprintf("%s, %s, %s", s.Name, c.Client, how), fmt.Sprintf("%d of %d", c.Right, c.Of), strings.Join(c.Wrong, " ")})
		}
	}
	p.table([]string{"client", "right", "wrong"}, rows)
}

func (p *page) costs(r llm.Report) {
	var rows [][]string
	for _, s := range r.Systems {
		if c := s.Cost; c != nil {
			rows = append(rows, []string{s.Name, fmt.Sprintf("%.0f µs", c.CPU), fmt.Sprintf("%.0f", c.PerSecond), fmt.Sprintf("%.1f ms", c.P50),
				fmt.Sprintf("%.1f ms", c.P99), fmt.Sprintf("%.0f MiB", c.Memory)})
		}
	}
	p.table([]string{"a completion", "CPU/request", "requests/s", "p50", "p99", "peak memory"}, rows)
}
