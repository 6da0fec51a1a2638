package call

import (
	"net/http"
	"sync/atomic"
	"time"

	"github.com/apifailover/caddy-failover/internal/answer"
	"github.com/apifailover/caddy-failover/internal/outcome"
	"github.com/apifailover/caddy-failover/internal/pool"
	"github.com/apifailover/caddy-failover/internal/target"
)

// A Handler is what the calls of one handler go by. It is read-only once calls are
// made, but for what of the poolHandler says otherwise.
type Handler struct {
	pool.Handler
	Rules
	transport *Transport
	traces    atomic.Bool // the transport has told which connection a request gets
}

// Balance is how the endpoints of a tier share its calls.
type Balance uint8

const (
	ByWeight   Balance = iota
	ByLatency          // of two that are drawn by weight, the one with the shorter wait
	ByRequests         // of two that are drawn by weight, the one with fewer requests in flight
)

// Rules are a handler's options for its calls, ready for use.
type Rules struct {
	Name       string // the pool's
	Failure    *outcome.StatusSet
	Answers    *answer.Rules // what answers mean; nil: what their status says
	Idle       time.Duration // the longest silence inside an answer's body; 0: no bound
	Commit     CommitRules
	Balance    Balance
	Affinity   []KeySource // of keys; the first that has one counts
	Reads      bool        // bodies are looked into before the first attempt
	ErrorEvent bool        // a stream of events that breaks ends with an event that says so
	Edits      bool        // some endpoint has bodies edited
	Models     bool        // some endpoint has its own names of models
	PathModels bool        // which paths name, not bodies
	Looks      bool        // some of Answers look at bodies
	Below      bool        // some endpoint has a base URL with a path
	Plain      bool        // the proxy's transport does not do TLS unless a URL says so
	Strips     bool        // some endpoint does not get the client's credentials
	StripsAll  bool        // no endpoint does
	Screen     *target.Screen
	Handles    bool // routes handle some answers, and may want the request's body
	Rematches  bool // the proxy may throw an answer away and ask again
	HasQuotas  bool // some endpoint may ask to wait or deny us
	TryAnyway  bool // while every endpoint is out
	Retry      RetryRules

	// RetryMatch tells, as the proxy's own lb_retry_match does, whether a request may be
	// sent again after a transport error; nil: Retry says so.
	RetryMatch func(*http.Request) bool
	Wait       WaitRules
}
