package failover

import (
	"time"

	"github.com/apifailover/caddy-failover/internal/outcome"
)

// A callHandler is what the calls of one handler go by. It is read-only once calls are
// made, but for what of the poolHandler says otherwise.
type callHandler struct {
	poolHandler
	callRules
}

// callRules are a handler's options for its calls, ready for use.
type callRules struct {
	name       string // the pool's
	failure    *outcome.StatusSet
	nextOn     []nextRule
	idle       time.Duration // the longest silence inside an answer's body; 0: no bound
	commit     commitRules
	least      bool // of two endpoints that are drawn, the one with the shorter wait is called
	errorEvent bool // a stream of events that breaks ends with an event that says so
	edits      bool // some endpoint has bodies edited
	looks      bool // some of nextOn look at bodies
	below      bool // some endpoint has a base URL with a path
	plain      bool // the proxy's transport does not do TLS unless a URL says so
	strips     bool // some endpoint does not get the client's credentials
	stripsAll  bool // no endpoint does
	rematches  bool // the proxy may throw an answer away and ask again
	hasQuotas  bool // some endpoint may ask to wait or deny us
	tryAnyway  bool // while every endpoint is out
	retry      retryRules
}
