package failover

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/sla"
	"github.com/apifailover/caddy-failover/internal/slowness"
)

// PoolStatus is how a pool stands at a time. It is a copy that nobody changes,
// and holds no credentials.
type PoolStatus struct {
	// The pool's name.
	Name string `json:"name"`

	// When this was so.
	At time.Time `json:"at"`

	// Whether every endpoint is out, so that calls are refused but for a trial
	// now and then.
	Down bool `json:"down"`

	// Calls a second over the last 10 seconds.
	CallsPerSecond float64 `json:"calls_per_second"`

	// Retries that the budget did not allow, since the pool was made.
	RetriesDenied int64 `json:"retries_denied"`

	// How far the objectives are met, as clients saw the pool; absent without
	// objectives, and in the first 10 seconds.
	SLA *SLAStatus `json:"sla,omitempty"`

	// The endpoints by priority; those of one priority as they were configured.
	Endpoints []EndpointStatus `json:"endpoints"`
}

// EndpointStatus is how an endpoint stands at a time. Where several handlers
// share the pool, its URL, priority, weight and traffic are those of the first
// that has it.
type EndpointStatus struct {
	// The endpoint's name, unique in the pool.
	Name string `json:"name"`

	// The base URL without user, password, and parts of its path that look like
	// keys. Absent where scheme, path and Host are the proxy's.
	URL string `json:"url,omitempty"`

	// The dial address.
	Address string `json:"address"`

	// The tier, 1 is most preferred, and the share of it, as they are in force:
	// what an operator has set comes before what is configured.
	Priority int     `json:"priority"`
	Weight   float64 `json:"weight"`

	// The breaker: closed, open, recovering, forced_open (tripped) or
	// forced_closed.
	State string `json:"state"`

	// Whether an operator keeps new calls away while those in flight finish.
	Draining bool `json:"draining"`

	// Why the breaker is in this state and since when; absent if it has been
	// since the pool was made.
	Reason string    `json:"reason,omitempty"`
	Since  time.Time `json:"since,omitzero"`

	// When an open breaker will try the endpoint again.
	Until time.Time `json:"until,omitzero"`

	// How much of its normal traffic the breaker allows, 0 to 1.
	Share float64 `json:"share"`

	// How well the endpoint has been doing, 0 to 1.
	Score float64 `json:"score"`

	// Its part of all calls by the routing table, 0 to 1.
	Traffic float64 `json:"traffic"`

	// Until when the endpoint asked to be left alone.
	HeldUntil time.Time `json:"held_until,omitzero"`

	// Attempts that are under way, streams included.
	InFlight int64 `json:"in_flight"`

	// Attempts since the state was made, by what they came to. Cancelled are
	// those whose client left.
	Attempts  uint64 `json:"attempts"`
	Successes uint64 `json:"successes"`
	Failures  uint64 `json:"failures"`
	Cancelled uint64 `json:"cancelled"`

	// What the last attempts came to, newest last, at most 20: success, dial, tls,
	// timeout, reset, status, rate_limited, denied, truncated, stalled, cancelled.
	LastOutcomes []string `json:"last_outcomes"`

	// Time to the first byte of successes over the last hour, to an eighth; absent
	// if unknown.
	Latency *LatencyStatus `json:"latency,omitempty"`

	// Its health checks; absent if it has none.
	Check *CheckStatus `json:"check,omitempty"`

	// How far it meets the pool's objectives by itself; absent without any. Up to a
	// minute old.
	SLA *SLAStatus `json:"sla,omitempty"`

	// The lever that an operator holds, and the weight and priority that one has
	// set; absent if there is none.
	Operator *OperatorStatus `json:"operator,omitempty"`
	Override *OverrideStatus `json:"override,omitempty"`
}

// LatencyStatus are quantiles of the time to the first byte, in seconds.
type LatencyStatus struct {
	P50 float64 `json:"p50"`
	P95 float64 `json:"p95"`
	P99 float64 `json:"p99"`
}

// OperatorStatus is a lever that an operator holds.
type OperatorStatus struct {
	// drain, trip, or enable where the breaker is kept closed.
	Action string `json:"action"`

	// What the operator gave as the reason.
	Reason string `json:"reason,omitempty"`

	// Since when, and until when; without an end it holds until it is undone.
	Since time.Time `json:"since"`
	Until time.Time `json:"until,omitzero"`
}

// OverrideStatus are a weight and a priority that an operator has set.
type OverrideStatus struct {
	Weight   *SettingStatus[float64] `json:"weight,omitempty"`
	Priority *SettingStatus[int]     `json:"priority,omitempty"`
}

// SettingStatus is a value that an operator has set.
type SettingStatus[T any] struct {
	Value T `json:"value"`

	// What the configuration says.
	Configured T `json:"configured"`

	// What the operator gave as the reason.
	Reason string `json:"reason,omitempty"`

	// Since when, and until when; without an end it holds until it is undone.
	Since time.Time `json:"since"`
	Until time.Time `json:"until,omitzero"`
}

// Status returns how every pool of this process stands, by name. It holds each
// lock only for as long as it takes to copy a few numbers.
func Status(now time.Time) []PoolStatus {
	all := []PoolStatus{}
	for _, p := range runningPools() {
		all = append(all, p.status(now))
	}
	return all
}

// runningPools returns the pools of this process, by name.
func runningPools() []*pool {
	var all []*pool
	pools.Range(func(_, value any) bool {
		all = append(all, value.(*pool))
		return true
	})
	slices.SortFunc(all, func(a, b *pool) int { return cmp.Compare(a.name, b.name) })
	return all
}

// findPool returns the pool of a name, nil if there is none.
func findPool(name string) *pool {
	var found *pool
	pools.Range(func(key, value any) bool {
		if key == name {
			found = value.(*pool)
		}
		return found == nil
	})
	return found
}

// status copies how the pool stands.
func (p *pool) status(now time.Time) PoolStatus {
	status := PoolStatus{
		Name:           p.name,
		At:             now,
		CallsPerSecond: p.budget.Rate(now),
		RetriesDenied:  p.budget.Denied.Load(),
		Endpoints:      []EndpointStatus{},
	}
	p.mu.Lock()
	g := p.generation.Load() // under the lock, or a reload might empty it meanwhile
	if g == nil {
		p.mu.Unlock()
		return status
	}
	cfg := g.breaker.Load()
	views, down := p.viewsLocked(g)
	p.mu.Unlock()
	status.Down = down
	judged := p.keeping.standing.Load()
	if judged != nil {
		status.SLA = slaStatus(judged.objective, judged.pool, &judged.alert)
	}
	for _, v := range views {
		e := v.state.status(now, cfg)
		v.describe(&e)
		e.SLA = judged.endpoint(e.Name)
		status.Endpoints = append(status.Endpoints, e)
	}
	return status
}

// endpoint is how an endpoint compares with the pool's objective, nil if that is
// not known.
func (s *standing) endpoint(name string) *SLAStatus {
	if s == nil {
		return nil
	}
	own, ok := s.endpoints[name]
	if !ok {
		return nil
	}
	return slaStatus(s.objective, own, new(sla.Alert))
}

// A view is an endpoint as the first handler that has it sees it.
type view struct {
	*target
	traffic float64
}

// viewsLocked returns the endpoints of a configuration, and whether all of them are
// out in every handler.
func (p *pool) viewsLocked(g *generation) (views []view, down bool) {
	seen := make(map[*endpointState]bool)
	add := func(t *target, traffic float64) {
		if !seen[t.state] {
			seen[t.state] = true
			views = append(views, view{t, traffic})
		}
	}
	for _, policy := range g.policies {
		if t := policy.currentTable(); t != nil && len(t.targets) > 0 {
			down = (down || len(views) == 0) && t.total <= 0
			for i, target := range t.targets {
				add(target, t.share(i))
			}
		}
		if policy.dynamic != nil {
			for _, address := range slices.Sorted(maps.Keys(policy.dynamic.known)) {
				add(policy.dynamic.known[address], 0)
			}
		}
	}
	slices.SortStableFunc(views, func(a, b view) int { return cmp.Compare(a.priority, b.priority) })
	return views, down
}

// currentTable is the table that the last calls went by; nil if there is none
// yet.
func (p *Policy) currentTable() *table {
	if p.dynamic == nil {
		return p.table.Load()
	}
	if d := p.dynamic.current.Load(); d != nil {
		return d.table.Load()
	}
	return nil
}

// describe adds what the configuration knows.
func (v view) describe(e *EndpointStatus) {
	e.URL = redactURL(v.url)
	e.Priority, e.Weight = v.priority, v.weight
	e.Traffic = tidy(v.traffic)
	configured := v.target
	if v.configured != nil {
		configured = v.configured
	}
	if e.Override != nil && e.Override.Weight != nil {
		e.Override.Weight.Configured = configured.weight
	}
	if e.Override != nil && e.Override.Priority != nil {
		e.Override.Priority.Configured = configured.priority
	}
}

// status copies how the endpoint stands. What takes long it does without the
// endpoint's lock.
func (s *endpointState) status(now time.Time, cfg *breaker.Config) EndpointStatus {
	s.mu.Lock()
	s.countLocked(now)
	e := s.statusLocked(now, cfg)
	last, latencies := s.last, s.slowness.Known
	s.mu.Unlock()
	e.LastOutcomes = last.names()
	e.Latency = latencyStatus(&latencies)
	return e
}

func (s *endpointState) statusLocked(now time.Time, cfg *breaker.Config) EndpointStatus {
	b := &s.breaker
	e := EndpointStatus{
		Name:      s.name,
		Address:   s.address,
		State:     b.State.String(),
		Reason:    b.Reason,
		Since:     b.Changed,
		Share:     tidy(b.Allowed(cfg)),
		Score:     tidy(1 - s.scorer.Lost),
		InFlight:  s.busy.Load(),
		Attempts:  s.totals.Attempts,
		Successes: s.totals.Successes,
		Failures:  s.totals.Failures,
		Cancelled: s.totals.Cancelled,
	}
	e.Check = s.checks.status()
	if b.State == breaker.Open {
		e.Until = b.Until
	}
	if now.Before(s.holdUntil) {
		e.HeldUntil = s.holdUntil
	}
	s.describeOrdersLocked(&e)
	return e
}

// latencyStatus makes quantiles, to an eighth; nil if nothing is known.
func latencyStatus(h *slowness.Histogram) *LatencyStatus {
	total := h.Total()
	if total < 1 {
		return nil
	}
	return &LatencyStatus{
		P50: tidy(h.Quantile(0.5, total).Seconds()),
		P95: tidy(h.Quantile(0.95, total).Seconds()),
		P99: tidy(h.Quantile(0.99, total).Seconds()),
	}
}

// describeOrdersLocked adds what an operator has ordered.
func (s *endpointState) describeOrdersLocked(e *EndpointStatus) {
	if o := s.lever; o != nil {
		e.Draining = o.action == orderDrain
		e.Operator = &OperatorStatus{Action: o.action, Reason: o.reason, Since: o.since, Until: o.until}
	}
	in := s.settings.Load()
	if in == nil {
		return
	}
	e.Override = &OverrideStatus{}
	if w := in.weight; w != nil {
		e.Override.Weight = &SettingStatus[float64]{Value: w.value, Reason: w.reason, Since: w.since, Until: w.until}
	}
	if p := in.priority; p != nil {
		e.Override.Priority = &SettingStatus[int]{Value: p.value, Reason: p.reason, Since: p.since, Until: p.until}
	}
}

// tidy takes off what is only due to floating point.
func tidy(x float64) float64 { return math.Round(x*1e6) / 1e6 }
