package api

import (
	"math"
	"time"

	"github.com/apifailover/caddy-failover/internal/sla"
)

// CheckStatus is how the health checks of an endpoint stand.
type CheckStatus struct {
	// up, down, or undecided as long as there have not been enough results in a
	// row.
	State string `json:"state"`

	// When the latest check ended, and what it came to: passed, dial, tls, timeout,
	// reset, status <code>, or body: <what was wrong>. Absent before the first.
	LastAt     time.Time `json:"last_at,omitzero"`
	LastResult string    `json:"last_result,omitempty"`

	// When the next is due.
	NextAt time.Time `json:"next_at,omitzero"`

	// Checks since the state was made: those sent, and those left out since calls
	// said the same or the endpoint had asked to be left alone.
	Sent    uint64 `json:"sent"`
	Skipped uint64 `json:"skipped"`
}

// OperatorAnswer says what has become of a command.
type OperatorAnswer struct {
	Pool     string `json:"pool"`
	Endpoint string `json:"endpoint"`

	// drain, enable, trip, reset or set.
	Action string `json:"action"`

	// Attempts that are under way and will finish.
	InFlight int64 `json:"in_flight"`

	// How the endpoint stands now.
	Status EndpointStatus `json:"status"`
}

// SLAStatus is how far the objectives are met over their window. For the pool that
// is what its clients saw.
type SLAStatus struct {
	// The window, in seconds.
	Window float64 `json:"window_seconds"`

	// Calls that came to a success or a failure, how many failed, and how long all
	// was down, over the window.
	Calls  uint64  `json:"calls"`
	Failed uint64  `json:"failed"`
	Down   float64 `json:"down_seconds"`

	Availability *IndicatorStatus `json:"availability,omitempty"`
	Latency      *IndicatorStatus `json:"latency,omitempty"`

	// The latency at the objective's quantile, and the target, in seconds; absent
	// without a latency objective.
	Quantile float64 `json:"quantile_seconds,omitempty"`
	Target   float64 `json:"target_seconds,omitempty"`
}

// IndicatorStatus is one objective and what has been achieved.
type IndicatorStatus struct {
	sla.Attainment

	// Whether the error budget is being spent too fast; of a pool only.
	Burning bool `json:"burning"`

	// How fast it is spent, over pairs of windows.
	Burn []BurnStatus `json:"burn"`
}

// BurnStatus is how fast an error budget is spent: at a rate of 1 it lasts for the
// objective's window. Both rates have to reach the limit.
type BurnStatus struct {
	Long      float64 `json:"long_seconds"`
	Short     float64 `json:"short_seconds"`
	Limit     float64 `json:"limit"`
	LongRate  float64 `json:"long_rate"`
	ShortRate float64 `json:"short_rate"`
}

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

	// How calls wait that find no endpoint; absent if none ever has.
	Waiting *WaitingStatus `json:"waiting,omitempty"`

	// How far the objectives are met, as clients saw the pool; absent without
	// objectives, and in the first 10 seconds.
	SLA *SLAStatus `json:"sla,omitempty"`

	// The endpoints by priority; those of one priority as they were configured.
	Endpoints []EndpointStatus `json:"endpoints"`
}

// WaitingStatus is how calls wait for an endpoint of a pool. The counts are of waits, since the
// pool was made: a call whose attempt fails may wait again.
type WaitingStatus struct {
	// Calls that wait now.
	Calls int64 `json:"calls"`

	// How long the first in the queue has been there, in seconds.
	Longest float64 `json:"longest_seconds"`

	// Waits that ended with an attempt, with a refusal, and with the client's leaving.
	LetIn    uint64 `json:"let_in"`
	TimeOver uint64 `json:"time_over"`
	Left     uint64 `json:"left"`

	// Calls that were refused at once, since as many waited as may.
	TurnedAway uint64 `json:"turned_away"`
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

// Tidy takes off what is only due to floating point.
func Tidy(x float64) float64 { return math.Round(x*1e6) / 1e6 }
