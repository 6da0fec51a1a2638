package main

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// soakReport is what a soak came to. Problems is empty if all is as it must be.
type soakReport struct {
	Machine machine    `json:"machine"`
	Minutes float64    `json:"minutes"`
	Runs    []*soakRun `json:"runs"`
}

// A soakRun is one Caddy's.
type soakRun struct {
	Build    string         `json:"build"` // plain or race
	Calls    soakCalls      `json:"calls"`
	Faults   map[string]int `json:"faults"`
	Reloads  int            `json:"reloads"`
	Counts   soakCounts     `json:"counts"`
	Growth   soakGrowth     `json:"growth"`
	Problems []string       `json:"problems"`
	// races that the detector found in Caddy itself, and that are known
	CaddyRaces int `json:"races_of_caddys_own"`

	mu      sync.Mutex
	actors  [3]*actor
	proxy   *running
	admin   *adminView
	caddy   string
	started time.Time
	loading atomic.Bool
	loaded  atomic.Int64 // when the last load ended, nanoseconds
}

// closing is how long after a load the servers before it close what is idle.
const closing = 3 * time.Second

// reloading tells whether a configuration is being replaced.
func (s *soakRun) reloading() bool {
	return s.loading.Load() || time.Since(time.Unix(0, s.loaded.Load())) < closing
}

// endsSockets tells whether a reload ends WebSockets, as it does by default. With
// stream_close_delay Caddy has a data race of its own (v2.11.9: Handler is copied by
// methods with a value receiver while its timer is set), so the race build is without.
func (s *soakRun) endsSockets() bool { return s.Build == "race" }

// soakGrowth is goroutines and live heap: after the first load, the median of the
// second quarter and of the last quarter under load, and when all is quiet again.
type soakGrowth struct {
	GoroutinesBefore int     `json:"goroutines_before"`
	GoroutinesEarly  float64 `json:"goroutines_second_quarter"`
	GoroutinesLate   float64 `json:"goroutines_last_quarter"`
	GoroutinesAfter  int     `json:"goroutines_after"`
	HeapBefore       float64 `json:"heap_before_mib"`
	HeapEarly        float64 `json:"heap_second_quarter_mib"`
	HeapLate         float64 `json:"heap_last_quarter_mib"`
	HeapAfter        float64 `json:"heap_after_mib"`
}

const (
	reloadEvery = 5 * time.Second
	viewEvery   = time.Second
)

// soak mixes traffic, random faults and reloads for a long time, and then looks
// whether everything adds up. The race detector watches a Caddy of its own.
func soak(b *bench, args []string) error {
	lasting := b.flags.Duration("duration", 0, "how long (default 30m, short 100s)")
	builds := b.flags.String("builds", "plain,race", "builds of Caddy to run, at the same time")
	rate := b.flags.Int("rate", 100, "requests a second at each Caddy, of which there is half as much at that with the race detector")
	if err := b.parse(args); err != nil {
		return err
	}
	if *lasting == 0 {
		*lasting = 30 * time.Minute
		if b.short {
			*lasting = 100 * time.Second
		}
	}
	report := soakReport{Machine: b.machine(), Minutes: lasting.Minutes()}
	for build := range strings.SplitSeq(*builds, ",") {
		run := &soakRun{Build: build, Faults: make(map[string]int)}
		var flags []string
		switch build {
		case "plain":
		case "race":
			flags = []string{"-race"}
		default:
			return fmt.Errorf("unknown build %q: want plain or race", build)
		}
		var err error
		if run.caddy, err = b.buildCaddy(flags...); err != nil {
			return err
		}
		report.Runs = append(report.Runs, run)
	}
	say("%v of traffic, faults and reloads", *lasting)
	errs := make([]error, len(report.Runs))
	var wg sync.WaitGroup
	for i, run := range report.Runs {
		perSecond := *rate
		if run.Build == "race" {
			perSecond /= 2
		}
		wg.Go(func() { errs[i] = run.soak(b, *lasting, perSecond) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if b.ctx.Err() != nil {
		return b.ctx.Err()
	}
	problems := 0
	for _, run := range report.Runs {
		run.print()
		problems += len(run.Problems)
	}
	if err := b.save("soak", report); err != nil {
		return err
	}
	if problems > 0 {
		return fmt.Errorf("%d problems", problems)
	}
	return nil
}

func (s *soakRun) problem(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.Problems) < 50 {
		s.Problems = append(s.Problems, fmt.Sprintf(format, args...))
	}
}

// soakPorts are where a soak's Caddy listens.
type soakPorts struct{ http, https, admin int }

// config is a Caddyfile that differs from load to load where a pool may change.
func (s *soakRun) config(at soakPorts, load int) string {
	endpoints := each([]string{"a", "b", "c"}, func(i int, name string) string {
		return fmt.Sprintf("\tendpoint http://%s {\n\t\tname %s\n\t\tpriority %d\n\t\tweight %d\n\t\theader X-Load %d\n\t}",
			s.actors[i].address, name, 1+i/2, 1+(load+i)%3, load)
	})
	pool := func(options string) string {
		return "failover {\n\tname soak\n" + endpoints + `	timeout 2s
	quota endpoint
	breaker {
		open_for 1s
		open_max 4s
	}
	retry {
		methods any
		budget 100% 1000
	}
	sla {
		availability 99.9%
	}
	health {
		uri /health
		method GET
		interval 2s
		fast_interval 500ms
		timeout 1s
	}
	transport http {
		keepalive 1s
	}
` + options + "}"
	}
	sockets := ""
	if !s.endsSockets() {
		sockets = "\tstream_close_delay 30s\n" // longer than they last
	}
	return fmt.Sprintf(`{
	admin 127.0.0.1:%d
	persist_config off
	auto_https off
	grace_period 10s
	metrics
	log {
		output stderr
		level ERROR
	}
	servers {
		protocols h1 h2 h2c
	}
}
(routes) {
	bind 127.0.0.1
	handle /stream* {
		%s
	}
	handle {
		%s
	}
}
http://127.0.0.1:%d {
	import routes
}
https://127.0.0.1:%d {
	tls {{dir}}/cert.pem {{dir}}/key.pem
	import routes
}
`, at.admin, pool("\tflush_interval -1\n"), pool("\tcommit complete\n"+sockets), at.http, at.https)
}

// soak runs one Caddy through everything.
func (s *soakRun) soak(b *bench, lasting time.Duration, rate int) error {
	for i, name := range []string{"a", "b", "c"} {
		a, err := newActor(name)
		if err != nil {
			return err
		}
		defer a.crash()
		s.actors[i] = a
	}
	var at soakPorts
	for _, port := range []*int{&at.admin, &at.https} {
		var err error
		if *port, err = freePort(); err != nil {
			return err
		}
	}
	proxy, err := b.start(peer{name: "soak " + s.Build, binary: "caddy", config: func(free listen, _ []string) string {
		at.http = free.port
		return s.config(at, 0)
	}}, h1, s.caddy, nil)
	if err != nil {
		return err
	}
	defer proxy.stop()
	s.proxy, s.started = proxy, time.Now()
	s.admin = &adminView{address: fmt.Sprintf("127.0.0.1:%d", at.admin), client: &http.Client{Timeout: 20 * time.Second}}
	traffic := newSoakTraffic(s, rate, at)
	traffic.once() // every kind of request, before anything is measured
	if s.Growth.GoroutinesBefore, s.Growth.HeapBefore, err = s.admin.size(); err != nil {
		return err
	}

	quit := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { traffic.run(quit) })
	wg.Go(func() { s.playFaults(quit) })
	wg.Go(func() { s.reload(quit, at) })
	var sizes []size
	wg.Go(func() { sizes = s.watch(quit, lasting) })
	ok := b.sleep(lasting)
	close(quit)
	wg.Wait()
	if !ok {
		return b.ctx.Err()
	}
	healAll(s.actors)
	s.awaitRecovery(traffic)
	traffic.done()
	s.judge(traffic, sizes)
	return nil
}

// playFaults lets a and b fail at random, one or both; c is always well, so that
// every call can be answered.
func (s *soakRun) playFaults(quit chan struct{}) {
	scripts := map[string]func(a *actor){
		"crash":      func(a *actor) { a.crash() },
		"hang":       func(a *actor) { a.play(hang) },
		"503":        func(a *actor) { a.play(unavailable) },
		"30 % 500":   func(a *actor) { a.play(sometimes(0.3)) },
		"POST 503":   func(a *actor) { a.play(failsPOST) },
		"slow":       func(a *actor) { a.play(slow) },
		"flapping":   func(a *actor) { a.play(flaps(300 * time.Millisecond)) },
		"429":        func(a *actor) { a.play(asksToWait(1)) },
		"cut bodies": func(a *actor) { a.play(cutsBodies) },
	}
	var names []string
	for name := range scripts {
		names = append(names, name)
	}
	slices.Sort(names)
	for {
		select {
		case <-quit:
			return
		case <-time.After(time.Second + rand.N(2*time.Second)):
		}
		a := s.actors[rand.IntN(2)]
		a.play(well)
		if err := a.up(); err != nil {
			s.problem("%v", err)
		}
		if rand.IntN(3) > 0 {
			name := names[rand.IntN(len(names))]
			s.Faults[name]++
			scripts[name](a)
		}
	}
}

// reload loads another configuration again and again; every fifth is broken and
// must be refused.
func (s *soakRun) reload(quit chan struct{}, at soakPorts) {
	for load := 1; ; load++ {
		select {
		case <-quit:
			return
		case <-time.After(reloadEvery):
		}
		config := strings.ReplaceAll(s.config(at, load), "{{dir}}", s.proxy.cmd.Dir)
		broken := load%5 == 0
		if broken {
			config = strings.Replace(config, "quota endpoint", "quota nobody", 1)
		}
		s.loading.Store(true)
		status, err := s.admin.load(config)
		s.loaded.Store(time.Now().UnixNano())
		s.loading.Store(false)
		switch {
		case err != nil:
			s.problem("reload %d: %v", load, err)
		case broken && status == http.StatusOK:
			s.problem("reload %d: a broken configuration was accepted", load)
		case !broken && status != http.StatusOK:
			s.problem("reload %d: status %d", load, status)
		default:
			s.Reloads++
		}
	}
}

// A size is what a process has at a time.
type size struct {
	goroutines int
	heap       float64
}

// watch follows events, and the size of the process.
func (s *soakRun) watch(quit chan struct{}, lasting time.Duration) (sizes []size) {
	every := max(2*time.Second, lasting/60)
	next := time.Now()
	for {
		if err := s.admin.follow(); err != nil {
			s.problem("reading events: %v", err)
		}
		if !time.Now().Before(next) {
			next = time.Now().Add(every)
			if goroutines, heap, err := s.admin.size(); err != nil {
				s.problem("reading the size of the process: %v", err)
			} else {
				sizes = append(sizes, size{goroutines, heap})
			}
		}
		select {
		case <-quit:
			return sizes
		case <-time.After(viewEvery):
		}
	}
}

// awaitRecovery goes on with good endpoints until every breaker is closed; one
// that does not close is stuck.
func (s *soakRun) awaitRecovery(traffic *soakTraffic) {
	deadline := time.Now().Add(30 * time.Second)
	for {
		traffic.burst(100)
		pool, err := s.admin.pool()
		if err != nil {
			s.problem("reading the pool: %v", err)
			return
		}
		stuck := ""
		for _, e := range pool.Endpoints {
			if e.State != "closed" || e.Share < 1 {
				stuck += fmt.Sprintf(" %s is %s with share %.2f", e.Name, e.State, e.Share)
			}
		}
		if stuck == "" {
			return
		}
		if time.Now().After(deadline) {
			s.problem("30 s after the last fault:%s", stuck)
			return
		}
	}
}

func (s *soakRun) print() {
	c, n, g := s.Calls, s.Counts, s.Growth
	fmt.Printf("\n%s build: %d calls: %d good, %d WebSockets cut off and %d others failed as the rules say, %d unexplained, %d cancelled by their clients, %d sent again; %d reloads, faults %v\n",
		s.Build, c.Sent, c.OK, c.SocketsCut, c.Explained, c.Unexplained, c.Cancelled, c.Resent, s.Reloads, s.Faults)
	for _, kind := range slices.Sorted(maps.Keys(c.Kinds)) {
		fmt.Printf("%8d %s\n", c.Kinds[kind], kind)
	}
	fmt.Printf("counts: %d attempts = %d successes + %d failures + %d cancelled; %d failovers by events (%d rescued), %d by metrics; %d attempts and %d calls by metrics; the SLA has %d calls, %d failed, %d cancelled\n",
		n.Attempts, n.Successes, n.Failures, n.Cancelled, n.FailoverEvents, n.Rescued, n.FailoverMetrics, n.MetricAttempts, n.MetricCalls, n.SLACalls, n.SLAFailed, n.SLACancelled)
	fmt.Printf("goroutines %d before, %.0f, %.0f, %d after; heap %.1f MiB before, %.1f, %.1f, %.1f after\n",
		g.GoroutinesBefore, g.GoroutinesEarly, g.GoroutinesLate, g.GoroutinesAfter, g.HeapBefore, g.HeapEarly, g.HeapLate, g.HeapAfter)
	if s.CaddyRaces > 0 {
		fmt.Printf("%d reports of a data race that is Caddy's own\n", s.CaddyRaces)
	}
	if len(s.Problems) == 0 {
		fmt.Println("no problem found")
	}
	for _, p := range s.Problems {
		fmt.Println("PROBLEM:", p)
	}
}
