package ops

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/apifailover/caddy-failover/internal/api"
	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/endpoint"
	"github.com/apifailover/caddy-failover/internal/memory"
	"github.com/apifailover/caddy-failover/internal/outcome"
	"github.com/apifailover/caddy-failover/internal/pool"
	"github.com/apifailover/caddy-failover/internal/sla"
)

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(prometheus.BuildFQName("caddy", "failover", name), help, labels, nil)
}

var metrics = struct {
	attempts, duration, failovers, calls, retriesDenied, poison, poolDown,
	waiting, waits, waitDuration,
	breakerState, share, score, traffic, inFlight, limitLeft, quotaLeft, tokens, held, scopeShare, checks,
	objective, achieved, budget, burnRate, burning,
	notKept, memoryUsed, memoryLimit *prometheus.Desc
}{
	attempts:      describe("attempts_total", "Attempts at an endpoint, by outcome.", "pool", "endpoint", "outcome"),
	duration:      describe("attempt_duration_seconds", "Time from the start of an attempt to the first byte of its response, or to its failure without one. Attempts whose client left do not count.", "pool", "endpoint"),
	failovers:     describe("failovers_total", "Requests that moved from one endpoint to another.", "pool", "from", "to", "reason"),
	calls:         describe("calls_total", "Requests by the result that their clients saw: a request that a failover saved is a success.", "pool", "outcome"),
	retriesDenied: describe("retries_denied_total", "Retries that the budget denied.", "pool"),
	poison:        describe("poison_total", "Requests that failed in the same way at several endpoints that serve other requests; their failures count against no endpoint.", "pool"),
	poolDown:      describe("pool_down", "1 while every endpoint of the pool is out, or out for each scope in use, else 0.", "pool"),
	waiting:       describe("waiting_calls", "Requests that wait for an endpoint.", "pool"),
	waits:         describe("waits_total", "Waits of requests for an endpoint, by how they ended; turned_away are requests that were refused because the queue was full.", "pool", "result"),
	waitDuration:  describe("wait_duration_seconds", "How long requests waited for an endpoint.", "pool"),
	breakerState:  describe("breaker_state", "1 for the state that the endpoint's breaker is in, 0 for the others.", "pool", "endpoint", "state"),
	share:         describe("endpoint_share", "Part of its normal traffic that the breaker allows the endpoint, 0 to 1.", "pool", "endpoint"),
	score:         describe("endpoint_score", "How well the endpoint has been doing, 0 to 1.", "pool", "endpoint"),
	traffic:       describe("endpoint_traffic_ratio", "Part of all requests whose first attempt goes to the endpoint, 0 to 1.", "pool", "endpoint"),
	inFlight:      describe("endpoint_in_flight", "Attempts in flight, including streams.", "pool", "endpoint"),
	limitLeft:     describe("endpoint_limit_left", "How much of a limit is left.", "pool", "endpoint", "of", "amount", "per"),
	quotaLeft:     describe("endpoint_quota_left", "What was left of a quota by the latest response of the endpoint that states it.", "pool", "endpoint", "of"),
	tokens:        describe("tokens_total", "Tokens that responses of the endpoint have stated, if it has a limit of tokens.", "pool", "endpoint"),
	held:          describe("endpoint_held", "1 while the endpoint is in cooldown, else 0.", "pool", "endpoint"),
	scopeShare:    describe("scope_share", "Part of its normal traffic that a scope of requests may have at the endpoint, 0 to 1; only for scopes that are out, recovering or in cooldown.", "pool", "endpoint", "scope"),
	checks:        describe("health_checks_total", "Health checks of an endpoint, by result; skipped are those whose result live requests already showed.", "pool", "endpoint", "result"),
	objective:     describe("sla_objective_ratio", "Objective: part of the requests that must succeed (availability) or of the successes that must be fast enough (latency), 0 to 1.", "pool", "sli"),
	achieved:      describe("sla_achieved_ratio", "Result over the objective's window, 0 to 1.", "pool", "sli"),
	budget:        describe("sla_error_budget_left_ratio", "Part of the error budget that is left over the objective's window: 1 is all of it; below 0 it is overspent.", "pool", "sli"),
	burnRate:      describe("sla_burn_rate", "How fast failures spend the error budget over a window: at 1 it lasts for the objective's window.", "pool", "sli", "window"),
	notKept:       describe("bodies_not_kept_total", "Request bodies and held responses that were passed on without being kept, because the memory for bodies was used up.", "pool"),
	memoryUsed:    describe("bodies_memory_bytes", "Memory in use for the kept bodies of all pools, in bytes."),
	memoryLimit:   describe("bodies_memory_limit_bytes", "Limit of the memory for the kept bodies of all pools, in bytes."),
	burning:       describe("sla_burning", "1 while failures spend the error budget too fast, else 0.", "pool", "sli"),
}

// A collector reads the metrics of one configuration's pools when Prometheus scrapes them.
// The pools hold the counters, so these outlive configurations.
type collector struct{ registry *prometheus.Registry }

// RegisterMetrics adds the metrics of all pools of a configuration to its registry. Further
// calls change nothing.
func RegisterMetrics(registry *prometheus.Registry) error {
	err := registry.Register(collector{registry})
	if already, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); ok && already.ExistingCollector == (collector{registry}) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("registering metrics: %w", err)
	}
	return nil
}

// Describe implements prometheus.Collector.
func (collector) Describe(ch chan<- *prometheus.Desc) {
	describeFleet(ch)
	m := &metrics
	for _, d := range []*prometheus.Desc{
		m.attempts, m.duration, m.failovers, m.calls, m.retriesDenied, m.poison, m.poolDown,
		m.waiting, m.waits, m.waitDuration,
		m.breakerState, m.share, m.score, m.traffic, m.inFlight, m.limitLeft, m.quotaLeft, m.tokens, m.held, m.scopeShare, m.checks,
		m.objective, m.achieved, m.budget, m.burnRate, m.burning,
		m.notKept, m.memoryUsed, m.memoryLimit,
	} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	now := time.Now()
	ch <- prometheus.MustNewConstMetric(metrics.memoryUsed, prometheus.GaugeValue, float64(memory.Bodies.Used()))
	ch <- prometheus.MustNewConstMetric(metrics.memoryLimit, prometheus.GaugeValue, float64(memory.Bodies.Limit()))
	collectFleet(ch, now)
	for _, p := range pool.Running() {
		measured := p.Measure(c.registry, now)
		if measured == nil {
			continue
		}
		for _, m := range render(p.Name, measured) {
			ch <- m
		}
	}
}

// scrape collects the metrics of a pool.
type scrape struct {
	pool string
	list []prometheus.Metric
}

func (s *scrape) add(d *prometheus.Desc, kind prometheus.ValueType, value float64, labels ...string) {
	s.list = append(s.list, prometheus.MustNewConstMetric(d, kind, value, s.labels(labels)...))
}

func (s *scrape) labels(more []string) []string {
	labels := []string{s.pool}
	for _, l := range more {
		labels = append(labels, strings.ToValidUTF8(l, "\ufffd"))
	}
	return labels
}

func (s *scrape) count(d *prometheus.Desc, n uint64, labels ...string) {
	s.add(d, prometheus.CounterValue, float64(n), labels...)
}

func (s *scrape) gauge(d *prometheus.Desc, value float64, labels ...string) {
	s.add(d, prometheus.GaugeValue, value, labels...)
}

func (s *scrape) flag(d *prometheus.Desc, is bool, labels ...string) {
	value := 0.0
	if is {
		value = 1
	}
	s.gauge(d, value, labels...)
}

// outcomes adds a count for each kind of outcome up to last, and for cancelled. It includes
// counts of 0, so that rates are right from the first one on. The kinds after last exist
// for pools only.
func (s *scrape) outcomes(d *prometheus.Desc, counts pool.OutcomeCounts, last sla.Kind, labels ...string) {
	s.count(d, counts.Successes, append(labels, sla.Success.String())...)
	for k := sla.Dial; k <= last; k++ {
		s.count(d, counts.Failures.Of(k), append(labels, k.String())...)
	}
	s.count(d, counts.Cancelled, append(labels, sla.Cancelled.String())...)
}

// render returns the metrics of a pool.
func render(pool string, measured *pool.Measures) []prometheus.Metric {
	s := &scrape{pool: strings.ToValidUTF8(pool, "\ufffd")}
	m := &metrics
	s.outcomes(m.calls, measured.Calls, sla.Full)
	s.count(m.retriesDenied, uint64(measured.Denied))
	s.count(m.poison, measured.Poison)
	s.count(m.notKept, measured.NotKept)
	s.flag(m.poolDown, measured.Down)
	s.waits(&measured.Waits)
	for i := range measured.Endpoints {
		s.endpoint(&measured.Endpoints[i])
	}
	s.standing(measured.Standing)
	return s.list
}

// waits adds the metrics of calls that waited for an endpoint.
func (s *scrape) waits(w *pool.WaitMeasures) {
	m := &metrics
	s.gauge(m.waiting, float64(w.Now))
	s.count(m.waits, w.LetIn, "let_in")
	s.count(m.waits, w.TimeOver, "time_over")
	s.count(m.waits, w.Left, "left")
	s.count(m.waits, w.TurnedAway, "turned_away")
	buckets, count := make(map[float64]uint64), uint64(0)
	for i, n := range w.Buckets {
		count += n
		if i < len(pool.WaitBounds) {
			buckets[pool.WaitBounds[i].Seconds()] = count
		}
	}
	s.list = append(s.list, prometheus.MustNewConstHistogram(m.waitDuration, count, w.Sum.Seconds(), buckets, s.labels(nil)...))
}

// endpoint adds the metrics of an endpoint.
func (s *scrape) endpoint(e *pool.EndpointMeasures) {
	m, name := &metrics, e.Name
	s.outcomes(m.attempts, e.Attempts, sla.Stalled, name)
	s.count(m.attempts, e.Unsent, name, outcome.Unsent.String())
	buckets, count := make(map[float64]uint64), uint64(0)
	for i, n := range e.Durations.Buckets {
		count += n
		if i < endpoint.DurationBuckets-1 {
			buckets[float64(uint64(1)<<i)/1000] = count
		}
	}
	s.list = append(s.list, prometheus.MustNewConstHistogram(m.duration, count,
		e.Durations.Sum.Seconds(), buckets, s.labels([]string{name})...))
	for r, n := range e.Failovers {
		s.count(m.failovers, n, name, r.To, r.Reason)
	}
	for i, word := range breaker.StateNames {
		s.flag(m.breakerState, e.State == breaker.State(i), name, word)
	}
	s.gauge(m.share, e.Share, name)
	s.gauge(m.score, api.Tidy(e.Score), name)
	s.gauge(m.traffic, api.Tidy(e.Traffic), name)
	s.gauge(m.inFlight, float64(e.InFlight), name)
	for _, l := range e.Limits {
		s.gauge(m.limitLeft, float64(l.Left), name, l.Of, strconv.FormatInt(l.Amount, 10), strconv.FormatFloat(l.Per, 'g', -1, 64))
	}
	seen := make(map[string]bool)
	for _, q := range e.Quotas {
		if !seen[q.Of] { // a response may state a quota twice
			seen[q.Of] = true
			s.gauge(m.quotaLeft, float64(q.Left), name, q.Of)
		}
	}
	if e.Meters {
		s.count(m.tokens, e.Tokens, name)
	}
	s.flag(m.held, e.Held, name)
	for _, one := range e.Scopes {
		s.gauge(m.scopeShare, one.Share, name, one.Scope)
	}
	s.count(m.checks, e.Passed, name, "passed")
	s.count(m.checks, e.Failed, name, "failed")
	s.count(m.checks, e.Skipped, name, "skipped")
}

// standing adds the metrics of the pool's objectives.
func (s *scrape) standing(st *pool.Standing) {
	if st == nil {
		return
	}
	m := &metrics
	for i, in := range []*sla.Indicator{&st.Pool.Availability, &st.Pool.Latency} {
		if in.Objective == 0 {
			continue
		}
		sli := sla.SLI(i)
		s.gauge(m.objective, in.Objective, sli.String())
		s.gauge(m.achieved, in.Achieved, sli.String())
		s.gauge(m.budget, in.BudgetLeft, sli.String())
		s.flag(m.burning, st.Alert.Burning(sli), sli.String())
		rates := make(map[string]float64)
		for _, b := range in.Burn {
			rates[windowName(b.Long)], rates[windowName(b.Short)] = b.LongRate, b.ShortRate
		}
		for window, rate := range rates {
			s.gauge(m.burnRate, rate, sli.String(), window)
		}
	}
}

// windowName returns a duration as Prometheus writes it: 5m, 6h, 3d.
func windowName(d time.Duration) string {
	switch {
	case d%(24*time.Hour) == 0:
		return fmt.Sprintf("%dd", d/(24*time.Hour))
	case d%time.Hour == 0:
		return fmt.Sprintf("%dh", d/time.Hour)
	}
	return fmt.Sprintf("%dm", d/time.Minute)
}

var _ prometheus.Collector = collector{}
