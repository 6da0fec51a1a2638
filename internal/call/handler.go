package call

import (
	"net/http"
	"sync/atomic"
	"time"

	"github.com/apifailover/caddy-failover/internal/answer"
	"github.com/apifailover/caddy-failover/internal/dialect"
	"github.com/apifailover/caddy-failover/internal/outcome"
	"github.com/apifailover/caddy-failover/internal/pool"
	"github.com/apifailover/caddy-failover/internal/target"
)

// A Handler is what the calls of one proxy handler share. It is read-only once calls are made,
// except for traces and as pool.Handler says.
type Handler struct {
	pool.Handler
	Rules
	transport *Transport
	traces    atomic.Bool // the transport reports which connection a request gets
	doubled   atomic.Bool // warnOfPath has warned
}

// Balance is how the endpoints of a tier share its calls.
type Balance uint8

const (
	ByWeight   Balance = iota
	ByLatency          // draw two by weight, take the one with the shorter wait
	ByRequests         // draw two by weight, take the one with fewer requests in flight
)

// Rules are a handler's options for its calls, ready for use.
type Rules struct {
	Name       string             // the pool's name
	Failure    *outcome.StatusSet // statuses that are failures
	Answers    *answer.Rules      // what answers mean; nil: their status decides
	Idle       time.Duration      // the longest silence inside an answer's body; 0: no bound
	Commit     CommitRules
	Balance    Balance
	Affinity   []KeySource           // where to find a key; the first source that has one counts
	Scope      KeySource             // where to find a call's scope; nil: calls have none
	Reads      bool                  // read bodies before the first attempt, because a key or a scope is in them
	ErrorEvent bool                  // end an event stream that breaks with an error event
	Edits      bool                  // bodies are edited for some endpoint
	Models     bool                  // some endpoint has its own names of models
	PathModels bool                  // paths name the model, not bodies
	Looks      bool                  // some rule of Answers, or Tokens, depends on the body
	API        *dialect.Dialect      // gives our own errors their form; nil: OpenAI's
	Tokens     *TokenRules           // nil: no endpoint has a limit of tokens
	Below      bool                  // some endpoint has a base URL with a path
	Plain      bool                  // the proxy's transport uses TLS only for https URLs
	Strips     bool                  // some endpoint does not get the client's credentials
	StripsAll  bool                  // no endpoint gets the client's credentials
	Screen     *target.Screen        // finds the client's credentials
	Handles    bool                  // handle_response routes may want the request's body
	Rematches  bool                  // lb_retry_match may drop an answer and send the request again
	HasQuotas  bool                  // some endpoint has a quota or credentials of its own, so its 429s, 401s and 403s count against it
	Quotas     []outcome.QuotaFields // the header fields in which endpoints state their quotas
	TryAnyway  bool                  // while every endpoint is out, try one anyway
	Retry      RetryRules

	// RetryMatch reports whether lb_retry_match lets a request be sent again after a
	// transport error; nil: Retry decides.
	RetryMatch func(*http.Request) bool
	Wait       WaitRules
}
