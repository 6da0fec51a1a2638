package call

import (
	"net/http"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/apifailover/caddy-failover/internal/jsondoc"
	"github.com/apifailover/caddy-failover/internal/pool"
	"github.com/apifailover/caddy-failover/internal/target"
)

// longestScope is the largest number of bytes in a scope's name.
const longestScope = 64

// batchScope is the scope of a batch whose elements have different ones.
const batchScope = "batch"

// ScopeOfJSON takes the scope from a field of the request's JSON body. Of a batch, which is a
// list, all elements must have the same value; else the scope is batchScope.
func ScopeOfJSON(field jsondoc.Field) KeySource {
	return func(c *Call, _ http.ResponseWriter) string {
		if c.body == nil {
			return ""
		}
		return field.InEach(c.body.Whole(), batchScope)
	}
}

// ScopeOfModel takes the model in the path as the scope.
func ScopeOfModel() KeySource {
	return func(c *Call, _ http.ResponseWriter) string { return target.ModelOf(c.Request.URL) }
}

// ScopeOfService takes the service in the path of a gRPC call as the scope.
func ScopeOfService() KeySource {
	return func(c *Call, _ http.ResponseWriter) string {
		if !c.grpc {
			return ""
		}
		service, _, _ := strings.Cut(strings.TrimPrefix(c.Request.URL.Path, "/"), "/")
		return service
	}
}

// setScope sets the call's scope, if it has one.
func (c *Call) setScope() {
	if name := shownScope(c.Handler.Scope(c, nil)); name != "" {
		c.extra().scope = name
	}
}

// scope returns the call's scope; empty: it has none.
func (c *Call) scope() string {
	if c.extras == nil {
		return ""
	}
	return c.extras.scope
}

// routes returns the handler's routes for the call.
func (c *Call) routes(now time.Time) *pool.Routes {
	return c.Handler.TableFor(c.upstreams(), now).For(c.scope())
}

// routesToWaitFor is routes for a call that waits. After a reload they lead to the new configuration's endpoints, if
// the call may have these. It takes Pool.Mu.
func (c *Call) routesToWaitFor(now time.Time) *pool.Routes {
	return c.Handler.TableToWaitFor(c.upstreams(), now).For(c.scope())
}

// shownScope cuts the name of a scope to longestScope, at the end of a character. Characters that
// cannot be printed become U+FFFD, since names go to logs and metrics.
func shownScope(name string) string {
	name = strings.TrimSpace(cutText(name))
	for i := range len(name) {
		if c := name[i]; c < ' ' || c > '~' {
			return cutText(strings.Map(func(r rune) rune {
				if !unicode.IsPrint(r) {
					return utf8.RuneError
				}
				return r
			}, name))
		}
	}
	return name
}

// cutText returns at most longestScope bytes of a text, in whole characters.
func cutText(text string) string {
	if len(text) <= longestScope {
		return text
	}
	end := longestScope
	for end > longestScope-utf8.UTFMax && !utf8.RuneStart(text[end]) {
		end--
	}
	return strings.Clone(text[:end]) // a slice would keep the whole text in memory
}
