package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// A page is docs/benchmarks.md while it is written.
type page struct {
	strings.Builder
	docs string
}

func (p *page) line(format string, args ...any) { fmt.Fprintf(p, format+"\n", args...) }

// table writes a Markdown table; columns but the first are numbers, and so
// aligned to the right.
func (p *page) table(head []string, rows [][]string) {
	p.line("\n| %s |\n|---%s|", strings.Join(head, " | "), strings.Repeat("|---:", len(head)-1))
	for _, row := range rows {
		p.line("| %s |", strings.Join(row, " | "))
	}
	p.line("")
}

func (p *page) chart(c chart, name string) error {
	path := filepath.Join("charts", slug(name)+".svg")
	p.line("![%s](%s)\n", c.title, path)
	return c.write(filepath.Join(p.docs, path))
}

// report writes docs/benchmarks.md and its charts from the results of the other
// commands. What was not run is left out.
func report(b *bench, args []string) error {
	docs := b.flags.String("docs", "../docs", "where benchmarks.md goes")
	if err := b.parse(args); err != nil {
		return err
	}
	p := &page{docs: *docs}
	p.line(`# Benchmarks

Written by %[1]sgo run . report%[1]s in %[1]sbench/%[1]s from what its other commands measured; run them yourself, each
stops by itself and uses loopback only:

    cd bench
    go run . faults    # failures that clients see while endpoints fail, beside other proxies
    go run . speed     # CPU, latency, throughput and memory while all is well
    go run . micro     # Go benchmarks of Select and of circuit breakers
    go run . soak      # mixed traffic, random faults and reloads: 30 minutes
    go run . fleet     # 1,000 proxies under virtual time
    go run . report    # this page

Each takes %[1]s-short%[1]s (about two minutes) and %[1]s-h%[1]s. Linux only. HAProxy and nginx are left out where they are not installed.
Where another proxy is better than this plugin, the page says so in its own words: look for "better here".`, "`")
	for _, part := range []struct {
		name  string
		write func(*page, []byte) error
	}{
		{"faults", (*page).faults}, {"speed", (*page).speed}, {"micro", (*page).micro}, {"soak", (*page).soak}, {"fleet", (*page).fleet},
	} {
		text, err := os.ReadFile(filepath.Join(b.out, part.name+".json"))
		if errors.Is(err, fs.ErrNotExist) {
			say("notice: %s has not been run; the page is without it", part.name)
			continue
		}
		if err != nil {
			return err
		}
		if err := part.write(p, text); err != nil {
			return fmt.Errorf("reporting %s: %w", part.name, err)
		}
	}
	path := filepath.Join(*docs, "benchmarks.md")
	say("written: %s", path)
	return os.WriteFile(path, []byte(strings.TrimRight(p.String(), "\n")+"\n"), 0o644)
}

// ranOn says when and where a part was measured.
func (p *page) ranOn(m machine) {
	var versions []string
	for _, name := range []string{"plugin", "Caddy", "HAProxy", "nginx", "Go"} {
		if v := m.Versions[name]; v != "" {
			versions = append(versions, name+" "+strings.TrimPrefix(v, "go"))
		}
	}
	short := ""
	if m.Short {
		short = " A short run."
	}
	p.line("\nMeasured %s on %d cores of %s, Linux %s: %s.%s", m.Date, m.Cores, m.CPU, m.Kernel, strings.Join(versions, ", "), short)
}

func (p *page) about(proxies []string, about map[string]string) {
	p.line("")
	for _, name := range proxies {
		p.line("- **%s**: %s", name, about[name])
	}
}

func (p *page) faults(text []byte) error {
	var r faultReport
	if err := json.Unmarshal(text, &r); err != nil {
		return err
	}
	p.line("\n## Faults")
	p.ranOn(r.Machine)
	p.line(`
Real processes, each in front of three endpoints of its own: a primary (a) and two backups. %d requests a second come in at
fixed times whatever becomes of the others, GETs and POSTs of 2 KiB by turns; latency counts from when a request was meant to be sent. A fault
begins after %v and is healed after %v more; all proxies of a fault run at the same time. A call failed if its client did not get the
whole right answer. "In 1st s" are failures in the first second of the fault, "after heal" those after it. p50, p99, max, the attempts that reached the primary and attempts per call are
of the time between. "Refused later" are attempts that the primary turned down after the heal, "back" is the
time from the heal to the first second in which the primary carries 90 %% of the calls.`, r.Rate, r.Course.Before, r.Course.During)
	if len(r.Tables) > 0 {
		var names []string
		for _, result := range r.Tables[0].Results {
			names = append(names, result.Proxy)
		}
		p.about(names, r.About)
	}
	var better []string
	for _, t := range r.Tables {
		p.line("\n### %s", t.Fault)
		p.line("\n%s.", capital(t.About))
		var rows [][]string
		for _, f := range t.Results {
			rows = append(rows, []string{f.Proxy, fmt.Sprint(f.Failed), fmt.Sprint(f.FirstSecond), fmt.Sprint(f.AfterHeal),
				fmt.Sprintf("%.1f ms", f.P50), fmt.Sprintf("%.0f ms", f.P99), fmt.Sprintf("%.0f ms", f.Max), fmt.Sprint(f.AtFaulty),
				fmt.Sprintf("%.2f", f.PerCall), fmt.Sprint(f.RefusedAfter), fmt.Sprint(f.Checks), orNever(f.Back) + " s"})
		}
		p.table([]string{fmt.Sprintf("of %d calls", t.Results[0].Calls), "failed", "in 1st s", "after heal", "p50", "p99", "max",
			"at primary", "attempts/call", "refused later", "checks", "back"}, rows)
		c := chart{title: t.Fault + ": what clients see", from: r.Course.Before.Seconds(), to: (r.Course.Before + r.Course.During).Seconds()}
		success := panel{label: "successful calls", top: 1, format: percent}
		latency := panel{label: "p99 latency", log: true, format: millis}
		primary := panel{label: "calls answered by the primary", top: 1, format: percent}
		for _, f := range t.Results {
			lines := [3]line{{name: f.Proxy}, {name: f.Proxy}, {name: f.Proxy}}
			for _, point := range f.Series {
				for i, value := range []float64{point.Success, point.P99, point.Primary} {
					lines[i].points = append(lines[i].points, [2]float64{point.At, value})
				}
			}
			success.lines = append(success.lines, lines[0])
			latency.lines = append(latency.lines, lines[1])
			primary.lines = append(primary.lines, lines[2])
		}
		c.panels = []panel{success, latency, primary}
		if err := p.chart(c, "fault "+t.Fault); err != nil {
			return err
		}
		better = append(better, t.betterThanFirst()...)
	}
	p.line("\n### Where another proxy is better here\n")
	if len(better) == 0 {
		p.line("Nowhere in this run.")
	}
	for _, b := range better {
		p.line("- %s", b)
	}
	return nil
}

// betterThanFirst are the measures in which a proxy clearly does better than the
// first one.
func (t faultTable) betterThanFirst() (list []string) {
	ours := t.Results[0]
	never := func(s float64) float64 {
		if s < 0 {
			return 1e9
		}
		return s
	}
	stayed := func(f faultResult) bool { return t.Calls > 0 && f.AtFaulty > int64(t.Calls/2) }
	for _, measure := range []struct {
		name   string
		of     func(faultResult) float64
		margin func(ours float64) float64 // what may be noise
		show   func(faultResult) string
	}{
		{"fewer failures", func(f faultResult) float64 { return float64(f.Failed) }, func(float64) float64 { return 0 },
			func(f faultResult) string { return fmt.Sprint(f.Failed) }},
		{"fewer failures in the first second", func(f faultResult) float64 { return float64(f.FirstSecond) }, func(float64) float64 { return 0 },
			func(f faultResult) string { return fmt.Sprint(f.FirstSecond) }},
		{"fewer failures after the heal", func(f faultResult) float64 { return float64(f.AfterHeal) }, func(float64) float64 { return 0 },
			func(f faultResult) string { return fmt.Sprint(f.AfterHeal) }},
		{"a lower p50", func(f faultResult) float64 { return f.P50 }, func(ours float64) float64 { return max(2, ours/4) },
			func(f faultResult) string { return fmt.Sprintf("%.1f ms", f.P50) }},
		{"a lower p99", func(f faultResult) float64 { return f.P99 }, func(ours float64) float64 { return max(20, ours/4) },
			func(f faultResult) string { return fmt.Sprintf("%.0f ms", f.P99) }},
		{"a lower maximum", func(f faultResult) float64 { return f.Max }, func(ours float64) float64 { return max(50, ours/4) },
			func(f faultResult) string { return fmt.Sprintf("%.0f ms", f.Max) }},
		{"fewer attempts at the primary", func(f faultResult) float64 { return float64(f.AtFaulty) }, func(ours float64) float64 { return max(5, ours/4) },
			func(f faultResult) string { return fmt.Sprint(f.AtFaulty) }},
		{"fewer attempts refused by the returning primary", func(f faultResult) float64 { return float64(f.RefusedAfter) }, func(ours float64) float64 { return max(2, ours/4) },
			func(f faultResult) string { return fmt.Sprint(f.RefusedAfter) }},
		{"a primary that is back sooner", func(f faultResult) float64 { return never(f.Back) }, func(float64) float64 { return 0.5 },
			func(f faultResult) string {
				if stayed(f) {
					return "never left it"
				}
				return orNever(f.Back) + " s"
			}},
	} {
		var who []string
		for _, f := range t.Results[1:] {
			if f.Failed > ours.Failed && !strings.Contains(measure.name, "fail") {
				continue // failing is quick, and keeps to the primary
			}
			if measure.of(f) < measure.of(ours)-measure.margin(measure.of(ours)) {
				who = append(who, fmt.Sprintf("%s (%s)", f.Proxy, measure.show(f)))
			}
		}
		if len(who) > 0 {
			list = append(list, fmt.Sprintf("%s: %s: %s; this plugin: %s", t.Fault, measure.name, strings.Join(who, ", "), measure.show(ours)))
		}
	}
	return list
}

func (p *page) speed(text []byte) error {
	var r speedReport
	if err := json.Unmarshal(text, &r); err != nil {
		return err
	}
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
			how = " Each proxy had its turns at the same time as `stock`, so its requests a second are about half of what it can do."
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

func (p *page) micro(text []byte) error {
	var r microReport
	if err := json.Unmarshal(text, &r); err != nil {
		return err
	}
	p.line("\n## Go benchmarks")
	p.ranOn(r.Machine)
	p.line(`
%d rounds in turns, set side by side by benchstat; %[2]s-2%[2]s is with two cores, and as many goroutines at once. %[2]sSelect/.../failover%[2]s is a whole first
Select and the recording of a success: it begins the call's record, takes the endpoint's permit and gives it back, which Caddy's policies do not have to. %[2]sfailover-attempt%[2]s is that
without the call's record (draw, permit, two clocks and the recording), %[2]sfailover-draw%[2]s the choice alone, which is what compares with them.
%[2]sBreaker%[2]s asks a closed breaker for a permit and reports a success.`, r.Rounds, "`")
	for _, s := range r.Subjects {
		p.line("\n```text\n%s```", s.Benchstat)
	}
	allocs := make([][]string, 0, len(r.Rows))
	for _, row := range r.Rows {
		if row.Cores == 1 && row.Allocs > 0 {
			allocs = append(allocs, []string{row.Name, fmt.Sprintf("%.0f", row.Allocs)})
		}
	}
	p.line("\nAllocations, where there are any:")
	p.table([]string{"", "per operation"}, allocs)
	p.line("Better here: Caddy's `first` and `round_robin` choose in a few nanoseconds, as they know neither share nor score; failsafe-go's breaker is quicker than ours, which keeps a sliding window and its endpoint's history under one lock.")
	return nil
}

func (p *page) soak(text []byte) error {
	var r soakReport
	if err := json.Unmarshal(text, &r); err != nil {
		return err
	}
	p.line("\n## Soak")
	p.ranOn(r.Machine)
	p.line(`
%.0f minutes of small and large requests, slow uploads, event streams, WebSockets and clients that go away, in equal parts over HTTP/1.1 and over HTTP/2 with and without TLS (WebSockets
over HTTP/1.1 alone), while two of three endpoints fail at random in nine ways and the configuration is loaded anew every 5 s (every fifth is broken and must be refused).
At the end every breaker must be closed, nothing in flight, nothing grown, and the counts of clients, endpoints, events, metrics and the SLA's history must agree exactly:
calls = successes + failures + cancelled = attempts − failovers, and the same for each of the three. "As the rules say" are streams that broke off after they had begun, when their endpoint did as it knows itself;
"WebSockets cut off" ended so too, or by a reload, which says so (in the race build; in the other %[2]sstream_close_delay%[2]s keeps them), and count as answered. "Sent again" are requests
that met a connection which a reload had just closed as idle, before they were read, as any client that keeps connections does.`, r.Minutes, "`")
	var rows [][]string
	for _, s := range r.Runs {
		faults := 0
		for _, n := range s.Faults {
			faults += n
		}
		http2 := 0
		for kind, n := range s.Calls.Kinds {
			if strings.HasSuffix(kind, " over "+h2c) || strings.HasSuffix(kind, " over "+h2tls) {
				http2 += n
			}
		}
		rows = append(rows, []string{s.Build, fmt.Sprint(s.Calls.Sent), fmt.Sprint(http2), fmt.Sprint(s.Calls.Unexplained), fmt.Sprint(s.Calls.Explained),
			fmt.Sprint(s.Calls.SocketsCut), fmt.Sprint(s.Calls.Cancelled), fmt.Sprint(s.Calls.Resent), fmt.Sprint(faults), fmt.Sprint(s.Reloads), fmt.Sprint(s.Counts.Attempts), fmt.Sprint(s.Counts.FailoverEvents),
			fmt.Sprintf("%d → %d", s.Growth.GoroutinesBefore, s.Growth.GoroutinesAfter),
			fmt.Sprintf("%.1f → %.1f MiB", s.Growth.HeapBefore, s.Growth.HeapAfter), fmt.Sprint(len(s.Problems))})
	}
	p.table([]string{"build", "calls", "over HTTP/2", "failed without reason", "as the rules say", "WebSockets cut off", "cancelled by clients", "sent again", "faults", "reloads", "attempts", "failovers",
		"goroutines", "live heap", "problems"}, rows)
	for _, s := range r.Runs {
		if s.CaddyRaces > 0 {
			p.line("- %s: %d reports of a data race of Caddy's own: ending a WebSocket, a reload and the copying of the answer both add to its size", s.Build, s.CaddyRaces)
		}
	}
	for _, s := range r.Runs {
		for _, problem := range s.Problems {
			p.line("- %s: %s", s.Build, problem)
		}
	}
	return nil
}

func (p *page) fleet(text []byte) error {
	var r fleetReport
	if err := json.Unmarshal(text, &r); err != nil {
		return err
	}
	if len(r.Scenarios) == 0 {
		return errors.New("no scenario")
	}
	p.line("\n## Fleet")
	p.ranOn(r.Machine)
	p.line(`
A simulation under virtual time: %d proxies with the plugin's real breakers, budgets, scores and tables, %.0f calls a second each, in front of endpoints whose capacity is
finite: what is above it is refused at once with a 503. No active checks. The same fleet without the retry budget, without progressive recovery (an endpoint that passes its trial
gets everything at once), and with a slow start over a fixed 10 s instead. "Attempts per call" are of the time of the fault and of the worst second; "load on return" is the most that the endpoints at
fault got in a second, as a part of the capacity they had in it: in the first second after their return, and from then on. "Even" is when they carry 90 %% of their usual load again.
The budget allows 20 %% of the calls plus 3 a second per proxy, over 10 s: with few calls per proxy the 3 weigh most, and a first burst may use 10 s' worth at once. Large fleets of quiet proxies want a lower floor (%[3]sbudget 20%% 0%[3]s).`,
		r.Scenarios[0].Instances, r.Scenarios[0].Rate, "`")
	for _, s := range r.Scenarios {
		p.line("\n### %s", capital(s.Name))
		p.line("\n%s %d endpoints.", s.About, s.Endpoints)
		var rows [][]string
		c := chart{title: "Fleet: " + s.Name, from: s.From, to: s.To}
		load := panel{label: "load on the endpoints at fault, by their usual load (dashed: their capacity)", top: 1.6, format: times}
		attempts := panel{label: "attempts per call", top: 3, format: times}
		failed := panel{label: "failed calls", top: 1, format: percent}
		var capacity line
		for _, v := range s.Results {
			loads := []string{"", ""}
			if v.Overload > 0 {
				loads = []string{fmt.Sprintf("%.2f", v.OverloadFirst), fmt.Sprintf("%.2f", v.Overload)}
			}
			rows = append(rows, []string{v.Variant, fmt.Sprintf("%.2f %%", 100*float64(v.Failed)/float64(v.Calls)), fmt.Sprintf("%.2f", v.Amplification),
				fmt.Sprintf("%.2f", v.AtWorst), loads[0], loads[1], orNever(v.EvenAfter) + " s"})
			lines := [3]line{{name: v.Variant}, {name: v.Variant}, {name: v.Variant}}
			for i, point := range v.Series {
				if i%2 == 1 { // half a second is fine enough to look at
					continue
				}
				for j, value := range []float64{point.Load, point.Attempts, point.Failed} {
					lines[j].points = append(lines[j].points, [2]float64{point.At, value})
				}
				if capacity.name == "" || len(capacity.points) < (len(v.Series)+1)/2 {
					capacity.name, capacity.dashed = "capacity", true
					capacity.points = append(capacity.points, [2]float64{point.At, point.Capacity})
				}
			}
			load.lines = append(load.lines, lines[0])
			attempts.lines = append(attempts.lines, lines[1])
			failed.lines = append(failed.lines, lines[2])
		}
		load.lines = append(load.lines, capacity)
		c.panels = []panel{load, attempts, failed}
		p.table([]string{"", "failed calls", "attempts per call", "in the worst second", "load on return", "later", "even after"}, rows)
		if err := p.chart(c, "fleet "+s.Name); err != nil {
			return err
		}
	}
	p.line("Better here: without progressive recovery an endpoint that is well at once has its load sooner, and a fixed slow start is sooner in some scenarios. Ours lets shares grow by what has been learnt: with 20 calls a second a proxy takes some 12 s for a full return, one with 200 takes 3 s. A cold endpoint stays within the bound that this project sets itself, at most 1.2 of its capacity from a second after the return, where proxies have up to 20 calls a second. With 50 or more they grow faster and go past it in the cold return, up to 1.4 for a second, since the endpoint takes a quarter of a second's capacity in a burst before it refuses anything. No client notices: refused calls go elsewhere.")
	return nil
}

func capital(s string) string { return strings.ToUpper(s[:1]) + s[1:] }
