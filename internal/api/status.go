package api

import (
	"fmt"
	"math"
	"time"

	"github.com/apifailover/caddy-failover/internal/incident"
	"github.com/apifailover/caddy-failover/internal/sla"
)

// CheckStatus is the state of an endpoint's health checks.
type CheckStatus struct {
	// up, down, or undecided until enough results in a row agree.
	State string `json:"state"`

	// When the latest check ended, and its result: passed; dial, tls, timeout or reset with
	// the error in short (dial: connection refused); status <code>; or body: <what was
	// wrong>. Absent before the first check.
	LastAt     time.Time `json:"last_at,omitzero"`
	LastResult string    `json:"last_result,omitempty"`

	// When the next check is due.
	NextAt time.Time `json:"next_at,omitzero"`

	// Checks since the state was made: checks sent, and checks skipped because calls gave
	// the same result or the endpoint was on hold.
	Sent    uint64 `json:"sent"`
	Skipped uint64 `json:"skipped"`
}

// OperatorAnswer is the response to an operator's order.
type OperatorAnswer struct {
	Pool     string `json:"pool"`
	Endpoint string `json:"endpoint"`

	// drain, enable, trip, reset or set.
	Action string `json:"action"`

	// Whether the other instances of the fleet were told.
	Fleet bool `json:"fleet,omitempty"`

	// Attempts in flight. They will finish.
	InFlight int64 `json:"in_flight"`

	// The endpoint's status after the order.
	Status EndpointStatus `json:"status"`
}

// SLAStatus compares the objectives with the results over their window. For a pool, the
// results are those that clients saw.
type SLAStatus struct {
	// The window, in seconds.
	Window float64 `json:"window_seconds"`

	// Successes and failures, failures, and time down, over the window.
	Calls  uint64  `json:"calls"`
	Failed uint64  `json:"failed"`
	Down   float64 `json:"down_seconds"`

	Availability *IndicatorStatus `json:"availability,omitempty"`
	Latency      *IndicatorStatus `json:"latency,omitempty"`

	// The latency at the objective's quantile, and the target, in seconds. Absent without a
	// latency objective.
	Quantile float64 `json:"quantile_seconds,omitempty"`
	Target   float64 `json:"target_seconds,omitempty"`
}

// IndicatorStatus is one objective and its attainment.
type IndicatorStatus struct {
	sla.Attainment

	// Whether the error budget burns too fast; always false for an endpoint.
	Burning bool `json:"burning"`

	// How fast it burns, over pairs of windows.
	Burn []BurnStatus `json:"burn"`
}

// BurnStatus is how fast an error budget is spent. At rate 1 it lasts exactly the
// objective's window. Burning needs both rates at the limit.
type BurnStatus struct {
	Long      float64 `json:"long_seconds"`
	Short     float64 `json:"short_seconds"`
	Limit     float64 `json:"limit"`
	LongRate  float64 `json:"long_rate"`
	ShortRate float64 `json:"short_rate"`
}

// PoolStatus is the status of a pool at one moment. It is an immutable copy and holds no
// credentials.
type PoolStatus struct {
	// The pool's name.
	Name string `json:"name"`

	// When this status was taken.
	At time.Time `json:"at"`

	// Whether every endpoint is out, or no endpoint takes calls of any scope in use. Calls are
	// then refused, except for an occasional trial.
	Down bool `json:"down"`

	// Calls per second over the last 10 seconds.
	CallsPerSecond float64 `json:"calls_per_second"`

	// Retries that the budget denied, since the pool was made.
	RetriesDenied int64 `json:"retries_denied"`

	// Calls that wait for an endpoint; absent if no call has ever waited.
	Waiting *WaitingStatus `json:"waiting,omitempty"`

	// The objectives and the results that clients saw. Absent without objectives, and in
	// the first 10 seconds.
	SLA *SLAStatus `json:"sla,omitempty"`

	// The current outage; absent if there is none.
	Incident *incident.Incident `json:"incident,omitempty"`

	// The endpoints by priority; those of equal priority in configured order.
	Endpoints []EndpointStatus `json:"endpoints"`
}

// WaitingStatus describes the calls that wait for an endpoint of a pool. It counts waits since the
// pool was made: a call whose attempt fails may wait again.
type WaitingStatus struct {
	// Calls that wait now.
	Calls int64 `json:"calls"`

	// How long the first call in the queue has waited, in seconds.
	Longest float64 `json:"longest_seconds"`

	// Waits that ended because an endpoint took the call, because the time was over, and because
	// the client left.
	LetIn    uint64 `json:"let_in"`
	TimeOver uint64 `json:"time_over"`
	Left     uint64 `json:"left"`

	// Calls that were refused at once because the queue was full.
	TurnedAway uint64 `json:"turned_away"`
}

// EndpointStatus is the status of an endpoint at one moment. If several handlers share the
// pool, its URL, priority, weight and traffic are those of the first handler that has the
// endpoint.
type EndpointStatus struct {
	// The endpoint's name, unique in the pool.
	Name string `json:"name"`

	// The base URL without user, password, and parts of the path that look like keys.
	// Absent if the endpoint uses the proxy's scheme, path and Host.
	URL string `json:"url,omitempty"`

	// The dial address.
	Address string `json:"address"`

	// The tier, where 1 is preferred, and the share of the tier, both as in force: an
	// operator's override replaces the configured value.
	Priority int     `json:"priority"`
	Weight   float64 `json:"weight"`

	// The breaker's state: closed, open, recovering, forced_open (tripped) or
	// forced_closed.
	State string `json:"state"`

	// Whether an operator drains the endpoint: it gets no new calls, and those in flight
	// finish.
	Draining bool `json:"draining"`

	// Why and since when the breaker is in this state. Absent before its first change.
	Reason string    `json:"reason,omitempty"`
	Since  time.Time `json:"since,omitzero"`

	// When an open breaker will try the endpoint again at the latest. While every endpoint
	// is out, trials come sooner.
	Until time.Time `json:"until,omitzero"`

	// When the breaker left the closed state. Since then it has been open or recovering. Absent
	// while it is closed.
	DownSince time.Time `json:"down_since,omitzero"`

	// What opened the breaker. Absent while it is closed, and if an operator opened it.
	Cause *FailureStatus `json:"cause,omitempty"`

	// The latest failure of an attempt since the breaker was last closed. Absent without
	// one.
	LastFailure *FailureStatus `json:"last_failure,omitempty"`

	// How much of its normal traffic the breaker allows, 0 to 1.
	Share float64 `json:"share"`

	// How well the endpoint has been doing, 0 to 1.
	Score float64 `json:"score"`

	// Its part of all calls by the routing table, 0 to 1.
	Traffic float64 `json:"traffic"`

	// End of and reason for the endpoint's cooldown: rate_limited (the endpoint asked for it),
	// quota (its responses state that a quota is used up), or next_on (half of its last calls
	// moved on from its responses; then one call tries it).
	HeldUntil  time.Time `json:"held_until,omitzero"`
	HeldReason string    `json:"held_reason,omitempty"`

	// Attempts in flight, including streams.
	InFlight int64 `json:"in_flight"`

	// Attempts since the state was made, by outcome. Cancelled attempts have no result: the
	// client left, or another attempt took over.
	Attempts  uint64 `json:"attempts"`
	Successes uint64 `json:"successes"`
	Failures  uint64 `json:"failures"`
	Cancelled uint64 `json:"cancelled"`

	// Outcomes of the last attempts, newest last, at most 20: success, dial, tls, timeout,
	// reset, status, rate_limited, denied, truncated, stalled, cancelled.
	LastOutcomes []string `json:"last_outcomes"`

	// Time to the first byte of successes over the last hour, with an error of at most an
	// eighth. Absent if unknown.
	Latency *LatencyStatus `json:"latency,omitempty"`

	// Its status for calls of each scope, if the pool has the option `scope`: first the scopes
	// that are not well, then the busiest 8 of the others. Absent if there are none.
	Scopes []ScopeStatus `json:"scopes,omitempty"`

	// Its health checks; absent if it has none.
	Check *CheckStatus `json:"check,omitempty"`

	// The pool's objectives and this endpoint's own results, up to a minute old. Absent without
	// objectives.
	SLA *SLAStatus `json:"sla,omitempty"`

	// How much is left of its limits; absent if it has none.
	Limits []LimitStatus `json:"limits,omitempty"`

	// The quotas that its responses have stated; absent if they state none.
	Quotas []QuotaStatus `json:"quotas,omitempty"`

	// What a schedule changes now; absent if none is in force. An operator's orders override
	// it.
	Schedule *ScheduleStatus `json:"schedule,omitempty"`

	// The operator's order in force, and the operator's overrides of weight and priority.
	// Absent if there are none.
	Operator *OperatorStatus `json:"operator,omitempty"`
	Override *OverrideStatus `json:"override,omitempty"`

	// Its state at the instances of the fleet; absent without a fleet.
	Fleet *EndpointFleet `json:"fleet,omitempty"`
}

// EndpointFleet is the state of an endpoint, or of one scope of it, at the instances of a fleet.
type EndpointFleet struct {
	// The number of instances at which the breaker is open, including this one, and the number of
	// instances.
	Open      int `json:"open"`
	Instances int `json:"instances"`

	// Whether this instance is wary: at least two other instances, and half of those with calls
	// to the endpoint, have it open. Then one failure opens the breaker here, and the endpoint
	// gets at most a quarter of its traffic until a call succeeds.
	Wary bool `json:"wary"`
}

// ScopeStatus is the status of an endpoint for the calls of one scope. The endpoint's own state has
// precedence: if it gets no calls, it gets none of the scope.
type ScopeStatus struct {
	// The scope, such as the name of a model; other for the calls of all scopes beyond 64.
	Scope string `json:"scope"`

	// The state of the scope's breaker, why, since and until when, and when it left the closed
	// state, as of an endpoint.
	State     string    `json:"state"`
	Reason    string    `json:"reason,omitempty"`
	Since     time.Time `json:"since,omitzero"`
	Until     time.Time `json:"until,omitzero"`
	DownSince time.Time `json:"down_since,omitzero"`

	// What opened the breaker, and the latest failure, as of an endpoint.
	Cause       *FailureStatus `json:"cause,omitempty"`
	LastFailure *FailureStatus `json:"last_failure,omitempty"`

	// How much of the scope's normal traffic the breaker allows, and how well the endpoint has
	// been doing, 0 to 1.
	Share float64 `json:"share"`
	Score float64 `json:"score"`

	// End of and reason for a cooldown, as of an endpoint.
	HeldUntil  time.Time `json:"held_until,omitzero"`
	HeldReason string    `json:"held_reason,omitempty"`

	// Attempts since the state of the scope was made.
	Attempts uint64 `json:"attempts"`

	// Time to the first byte of successes, as of an endpoint.
	Latency *LatencyStatus `json:"latency,omitempty"`

	// The scope's state at the instances of the fleet, as of an endpoint. Absent if it is open
	// nowhere.
	Fleet *EndpointFleet `json:"fleet,omitempty"`
}

// FailureStatus describes a failure in short printable text without credentials.
type FailureStatus struct {
	// dial, tls, timeout, reset, status, rate_limited, denied, truncated or stalled. Absent
	// for a health check and for slowness.
	Outcome string `json:"outcome,omitempty"`

	// The status ("503"), or the error in short ("connection refused").
	What string `json:"what"`

	// The request's method and its path without the query. Absent if unknown.
	Method string `json:"method,omitempty"`
	Path   string `json:"path,omitempty"`

	// The scope of the call; absent if it had none.
	Scope string `json:"scope,omitempty"`

	// How often it happened recently, and while the breaker was not closed. Absent if that
	// is not counted.
	Count uint64 `json:"count,omitempty"`

	// When it last happened.
	At time.Time `json:"at"`
}

// LatencyStatus holds quantiles of the time to the first byte, in seconds.
type LatencyStatus struct {
	P50 float64 `json:"p50"`
	P95 float64 `json:"p95"`
	P99 float64 `json:"p99"`
}

// OperatorStatus is an operator's order that is in force.
type OperatorStatus struct {
	// drain, trip, or enable if the breaker is forced closed.
	Action string `json:"action"`

	// The operator's reason.
	Reason string `json:"reason,omitempty"`

	// Start and end. Without an end it lasts until it is undone.
	Since time.Time `json:"since"`
	Until time.Time `json:"until,omitzero"`
}

// LimitStatus is how much is left of a limit.
type LimitStatus struct {
	// The limit: a number of `requests` or `tokens` in a number of seconds.
	Amount int64   `json:"amount"`
	Of     string  `json:"of"`
	Per    float64 `json:"per_seconds"`

	// What is left of it now.
	Left int64 `json:"left"`
}

// QuotaStatus is the latest that an endpoint's responses have stated of a quota.
type QuotaStatus struct {
	// What it counts: `requests`, `tokens`, `input tokens` or `output tokens`.
	Of string `json:"of"`

	// The whole quota. Absent if unknown.
	Amount int64 `json:"amount,omitempty"`

	// What was left.
	Left int64 `json:"left"`

	// When a used-up quota is available again, at most 5 minutes after the response.
	BackAt time.Time `json:"back_at,omitzero"`
}

// ScheduleStatus is what a schedule changes at an endpoint for a while.
type ScheduleStatus struct {
	// Whether it keeps new calls away.
	Drain bool `json:"drain"`

	// The weight and the priority that it sets; absent if it does not set them.
	Weight   *float64 `json:"weight,omitempty"`
	Priority *int     `json:"priority,omitempty"`

	// Start and end.
	Since time.Time `json:"since"`
	Until time.Time `json:"until"`
}

// OverrideStatus holds an operator's overrides of weight and priority.
type OverrideStatus struct {
	Weight   *SettingStatus[float64] `json:"weight,omitempty"`
	Priority *SettingStatus[int]     `json:"priority,omitempty"`
}

// SettingStatus is one value that an operator has set.
type SettingStatus[T any] struct {
	Value T `json:"value"`

	// The configured value.
	Configured T `json:"configured"`

	// The operator's reason.
	Reason string `json:"reason,omitempty"`

	// Start and end. Without an end it lasts until it is undone.
	Since time.Time `json:"since"`
	Until time.Time `json:"until,omitzero"`
}

// Tidy rounds to six decimals, which removes floating-point noise.
func Tidy(x float64) float64 { return math.Round(x*1e6) / 1e6 }

// String describes the failure and its count in one line: "503 from POST /v1/chat, 5
// times".
func (f *FailureStatus) String() string {
	text := f.What
	if f.Method != "" {
		text += " from " + f.Method + " " + f.Path
	}
	if f.Scope != "" {
		text += ", scope " + f.Scope
	}
	if f.Count > 1 {
		text += fmt.Sprintf(", %d times", f.Count)
	}
	return text
}
