package call

import (
	"net/http"
	"time"

	"github.com/apifailover/caddy-failover/internal/outcome"
	"github.com/apifailover/caddy-failover/internal/pool"
)

// A Handler is what the calls of one handler go by. It is read-only once calls are
// made, but for what of the poolHandler says otherwise.
type Handler struct {
	pool.Handler
	Rules
}

// Rules are a handler's options for its calls, ready for use.
type Rules struct {
	Name       string // the pool's
	Failure    *outcome.StatusSet
	NextOn     []NextRule
	Idle       time.Duration // the longest silence inside an answer's body; 0: no bound
	Commit     CommitRules
	Least      bool // of two endpoints that are drawn, the one with the shorter wait is called
	ErrorEvent bool // a stream of events that breaks ends with an event that says so
	Edits      bool // some endpoint has bodies edited
	Looks      bool // some of NextOn look at bodies
	Below      bool // some endpoint has a base URL with a path
	Plain      bool // the proxy's transport does not do TLS unless a URL says so
	Strips     bool // some endpoint does not get the client's credentials
	StripsAll  bool // no endpoint does
	Rematches  bool // the proxy may throw an answer away and ask again
	HasQuotas  bool // some endpoint may ask to wait or deny us
	TryAnyway  bool // while every endpoint is out
	Retry      RetryRules

	// RetryMatch tells, as the proxy's own lb_retry_match does, whether a request may be
	// sent again after a transport error; nil: Retry says so.
	RetryMatch func(*http.Request) bool
	Wait       WaitRules
}
