package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"
)

// A fault is a script: what happens to the endpoints a (the primary), b and c
// while clients go on.
type fault struct {
	name  string
	about string
	begin func(a [3]*actor)
	heal  func(a [3]*actor)
}

func healAll(actors [3]*actor) {
	for _, a := range actors {
		a.play(well)
		if err := a.up(); err != nil {
			say("%v", err)
		}
	}
}

// playing is a fault of the primary that a behaviour makes.
func playing(name, about string, b func() behaviour) fault {
	return fault{name, about, func(a [3]*actor) { a[0].play(b()) }, healAll}
}

func always(b behaviour) func() behaviour { return func() behaviour { return b } }

var faultScripts = []fault{
	{"crash", "the primary refuses connections and cuts those there are",
		func(a [3]*actor) { a[0].crash() }, healAll},
	playing("hang", "the primary takes requests and checks and never answers", always(hang)),
	playing("503", "the primary answers 503, checks too", always(unavailable)),
	playing("30 % 500", "the primary answers 500 to 30 % of the calls; checks pass", func() behaviour { return onlyCalls(sometimes(0.3)) }),
	playing("POST 503", "the primary answers 503 to every POST; GETs and checks pass", always(failsPOST)),
	playing("slow", "the primary takes 700 ms instead of 2 ms, for checks too", always(slow)),
	playing("flapping", "the primary cuts every connection for 1.5 s, is well for 1.5 s, and so on", func() behaviour { return flaps(1500 * time.Millisecond) }),
	{"cold return", "the primary crashes, and returns with a capacity of 10 calls a second that grows by 40 a second each second",
		func(a [3]*actor) { a[0].crash() }, func(a [3]*actor) {
			healAll(a)
			a[0].play(cold(10, 40, 400))
		}},
	playing("429", "the primary answers 429 with Retry-After: 2; checks pass", func() behaviour { return onlyCalls(asksToWait(2)) }),
	playing("cut bodies", "the primary's answers break off half way; checks pass", always(onlyCalls(cutsBodies))),
	{"two of three down", "the primary and the second crash",
		func(a [3]*actor) { a[0].crash(); a[1].crash() }, healAll},
	{"all down", "all three crash",
		func(a [3]*actor) { a[0].crash(); a[1].crash(); a[2].crash() }, healAll},
}

// faultPeers are the proxies in front of failing upstreams: the first is
// primary, the others are backups; answers are waited for a second.
var faultPeers = []peer{{
	name:   "failover",
	about:  "this plugin: the directive with `timeout 1s`, `methods any`, `quota endpoint`, `commit complete`, checks every second (every half while an endpoint is out)",
	binary: "caddy",
	config: func(at listen, upstreams []string) string {
		return caddyfile(at, "failover {\n"+each(upstreams, func(_ int, address string) string {
			return "\tendpoint http://" + address
		})+`	timeout 1s
	quota endpoint
	commit complete
	retry {
		methods any
	}
	health {
		uri /health
		method GET
		interval 1s
		fast_interval 500ms
		timeout 1s
	}
}`)
	},
}, {
	name:   "Caddy",
	about:  "stock: `first`, `max_fails 1`, passive and active checks, 3 retries on statuses and transport errors, buffered bodies",
	binary: "caddy",
	config: func(at listen, upstreams []string) string {
		return caddyfile(at, "reverse_proxy "+strings.Join(upstreams, " ")+stockOptions("first"))
	},
}, {
	name:   "HAProxy",
	about:  "`balance first`, `retry-on all-retryable-errors`, `option redispatch 1`, checks every second, `observe layer7`",
	binary: "haproxy",
	config: func(at listen, upstreams []string) string {
		return haproxyConfig(at, upstreams, "balance first")
	},
}, {
	name:   "nginx",
	about:  "`backup` servers, `proxy_next_upstream` on everything, also for POST, `max_fails`",
	binary: "nginx",
	config: func(at listen, upstreams []string) string {
		return nginxConfig(at, upstreams, true)
	},
}}

// A course is how long the parts of a run last.
type course struct {
	Before time.Duration `json:"before_ns"`
	During time.Duration `json:"during_ns"`
	After  time.Duration `json:"after_ns"`
}

func (c course) whole() time.Duration { return c.Before + c.During + c.After }

// faultResult is what one proxy's clients saw of one fault.
type faultResult struct {
	Proxy        string         `json:"proxy"`
	Calls        int            `json:"calls"`
	Failed       int            `json:"failed"`
	FirstSecond  int            `json:"failed_in_first_second"`
	AfterHeal    int            `json:"failed_after_heal"`
	What         map[string]int `json:"failures,omitempty"`
	P50          float64        `json:"p50_ms"` // from the fault to the heal
	P99          float64        `json:"p99_ms"`
	Max          float64        `json:"max_ms"`
	AtFaulty     int64          `json:"attempts_at_primary_during_fault"`
	PerCall      float64        `json:"attempts_per_call_during_fault"`
	RefusedAfter int64          `json:"refused_by_primary_after_heal"`
	Checks       int64          `json:"checks"`
	Back         float64        `json:"primary_back_after_s"` // -1: not within the run
	Series       []point        `json:"series"`
}

// A point is a quarter of a second of a run.
type point struct {
	At      float64 `json:"at_s"`
	Success float64 `json:"success"`
	P50     float64 `json:"p50_ms"`
	P99     float64 `json:"p99_ms"`
	Primary float64 `json:"primary"` // part of the calls that it answered
}

const pointEvery = 250 * time.Millisecond

type faultTable struct {
	Fault   string        `json:"fault"`
	Calls   int           `json:"calls_during_fault"`
	About   string        `json:"about"`
	Results []faultResult `json:"results"`
}

type faultReport struct {
	Machine machine           `json:"machine"`
	About   map[string]string `json:"about"`
	Rate    int               `json:"rate"`
	Course  course            `json:"course"`
	Tables  []faultTable      `json:"tables"`
}

// faults plays every script in front of every proxy. The proxies of a script
// run at the same time, each with endpoints and clients of its own, so that
// what the machine does meets all alike.
func faults(b *bench, args []string) error {
	rate := b.flags.Int("rate", 200, "requests a second at each proxy")
	only := b.flags.String("only", "", "faults to play, by name, comma separated (default all)")
	who := b.flags.String("peers", "", "proxies to compare, by name, comma separated (default all)")
	if err := b.parse(args); err != nil {
		return err
	}
	report := faultReport{
		Machine: b.machine(), About: make(map[string]string), Rate: *rate,
		Course: course{3 * time.Second, 8 * time.Second, 15 * time.Second},
	}
	if b.short {
		report.Course = course{1500 * time.Millisecond, 3 * time.Second, 6 * time.Second}
	}
	var peers []peer
	for _, p := range faultPeers {
		if (*who == "" || slices.Contains(strings.Split(*who, ","), p.name)) && p.available() {
			peers = append(peers, p)
			report.About[p.name] = p.about
		}
	}
	caddy, err := b.buildCaddy()
	if err != nil {
		return err
	}
	for _, f := range faultScripts {
		if *only != "" && !slices.Contains(strings.Split(*only, ","), f.name) {
			continue
		}
		table := faultTable{Fault: f.name, About: f.about, Calls: int(float64(*rate) * report.Course.During.Seconds()), Results: make([]faultResult, len(peers))}
		errs := make([]error, len(peers))
		var wg sync.WaitGroup
		for i, p := range peers {
			wg.Go(func() { table.Results[i], errs[i] = b.play(f, p, caddy, *rate, report.Course) })
		}
		wg.Wait()
		for _, err := range errs {
			if err != nil {
				return fmt.Errorf("%s: %w", f.name, err)
			}
		}
		if err := b.ctx.Err(); err != nil {
			return err
		}
		report.Tables = append(report.Tables, table)
		table.print()
	}
	return b.save("faults", report)
}

// play runs one script in front of one proxy.
func (b *bench) play(f fault, p peer, caddy string, rate int, c course) (faultResult, error) {
	result := faultResult{Proxy: p.name}
	var actors [3]*actor
	var upstreams []string
	for i, name := range []string{"a", "b", "c"} {
		a, err := newActor(name)
		if err != nil {
			return result, err
		}
		defer a.crash()
		actors[i] = a
		upstreams = append(upstreams, a.address)
	}
	proxy, err := b.start(p, h1, caddy, upstreams)
	if err != nil {
		return result, err
	}
	defer proxy.stop()
	loop := newOpenLoop(proxy.address, rate)
	for range 20 { // open connections
		loop.one(true)
	}
	began := time.Now()
	done := make(chan []sample)
	go func() { done <- loop.run(b.ctx, began, c.whole()) }()
	attempts := func() (at, all int64) {
		return actors[0].attempts.Load(), actors[0].attempts.Load() + actors[1].attempts.Load() + actors[2].attempts.Load()
	}
	b.sleep(time.Until(began.Add(c.Before)))
	at, all := attempts()
	f.begin(actors)
	b.sleep(time.Until(began.Add(c.Before + c.During)))
	at2, all2 := attempts()
	refused := actors[0].refused.Load()
	f.heal(actors)
	samples := <-done
	result.RefusedAfter = actors[0].refused.Load() - refused
	result.AtFaulty = at2 - at
	result.measure(samples, c)
	during := float64(rate) * c.During.Seconds()
	result.PerCall = float64(all2-all) / during
	for _, a := range actors {
		result.Checks += a.checks.Load()
	}
	return result, nil
}

// measure fills in what the samples say.
func (r *faultResult) measure(samples []sample, c course) {
	r.Calls, r.What = len(samples), make(map[string]int)
	fault, heal := c.Before, c.Before+c.During
	var took []time.Duration
	for _, s := range samples {
		if !s.OK {
			r.Failed++
			r.What[s.What]++
			if s.At >= fault && s.At < fault+time.Second {
				r.FirstSecond++
			}
			if s.At >= heal {
				r.AfterHeal++
			}
		}
		if s.At >= fault && s.At < heal {
			took = append(took, s.Took)
		}
	}
	r.P50, r.P99 = milliseconds(quantile(took, 0.5)), milliseconds(quantile(took, 0.99))
	r.Max = milliseconds(quantile(took, 1))
	r.Back = primaryBack(samples, heal)
	for from := 0; from < len(samples); {
		at := samples[from].At / pointEvery * pointEvery
		to := from
		for to < len(samples) && samples[to].At < at+pointEvery {
			to++
		}
		r.Series = append(r.Series, summarize(at, samples[from:to]))
		from = to
	}
}

func summarize(at time.Duration, samples []sample) point {
	p := point{At: at.Seconds()}
	var took []time.Duration
	for _, s := range samples {
		took = append(took, s.Took)
		if s.OK {
			p.Success++
			if s.Endpoint == "a" {
				p.Primary++
			}
		}
	}
	p.Success /= float64(len(samples))
	p.Primary /= float64(len(samples))
	p.P50, p.P99 = milliseconds(quantile(took, 0.5)), milliseconds(quantile(took, 0.99))
	return p
}

// primaryBack is how many seconds after the heal the primary first answered
// 90 % of the calls of a whole second; -1 if it never did.
func primaryBack(samples []sample, heal time.Duration) float64 {
	for i, first := range samples {
		if first.At < heal {
			continue
		}
		n, primary := 0, 0
		for _, s := range samples[i:] {
			if s.At >= first.At+time.Second {
				break
			}
			n++
			if s.OK && s.Endpoint == "a" {
				primary++
			}
		}
		if samples[len(samples)-1].At < first.At+900*time.Millisecond {
			break
		}
		if float64(primary) >= 0.9*float64(n) {
			return (first.At - heal).Seconds()
		}
	}
	return -1
}

func (t faultTable) print() {
	fmt.Printf("\n%s: %s\n", t.Fault, t.About)
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "proxy\tcalls\tfailed\tfirst s\tafter heal\tp50 ms\tp99 ms\tmax ms\tat primary\tattempts/call\trefused later\tchecks\tback s\twhat\t")
	for _, r := range t.Results {
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%.1f\t%.1f\t%.0f\t%d\t%.2f\t%d\t%d\t%s\t%s\t\n", r.Proxy, r.Calls, r.Failed, r.FirstSecond,
			r.AfterHeal, r.P50, r.P99, r.Max, r.AtFaulty, r.PerCall, r.RefusedAfter, r.Checks, orNever(r.Back), listed(r.What))
	}
	w.Flush()
}

func orNever(seconds float64) string {
	if seconds < 0 {
		return "not"
	}
	return fmt.Sprintf("%.1f", seconds)
}

// listed is what went wrong, most frequent first.
func listed(what map[string]int) string {
	var words []string
	for w := range what {
		words = append(words, w)
	}
	slices.SortFunc(words, func(x, y string) int { return what[y] - what[x] })
	for i, w := range words {
		words[i] = fmt.Sprintf("%s ×%d", w, what[w])
	}
	return strings.Join(words, ", ")
}
