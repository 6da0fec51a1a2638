package call

import (
	"encoding/json"
	"maps"
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// A Verdict is a matcher that the policy adds to each set of the proxy's lb_retry_match. It keeps
// the proxy from retrying after an error other than a dial error, and after an answer that is not an
// endpoint's.
type Verdict struct{}

const verdictName = "failover_verdict"

// CaddyModule implements caddy.Module.
func (Verdict) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.matchers." + verdictName, New: func() caddy.Module { return new(Verdict) }}
}

// isTransportError is the placeholder that the proxy sets while it matches a request after an error.
const isTransportError = "http.reverse_proxy.is_transport_error"

// MatchWithError implements caddyhttp.RequestMatcherWithError.
func (Verdict) MatchWithError(r *http.Request) (bool, error) {
	if repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer); ok {
		if _, set := repl.Get(isTransportError); set {
			return false, nil
		}
	}
	first, _ := caddyhttp.GetVar(r.Context(), varKey).(*Call)
	c := latest(first, func(*Call) bool { return true })
	return c == nil || c.handed, nil
}

// WithVerdict adds the verdict to each of the proxy's matcher sets, or makes it the only
// one.
func WithVerdict(sets caddyhttp.RawMatcherSets) caddyhttp.RawMatcherSets {
	added := make(caddyhttp.RawMatcherSets, 0, len(sets)+1)
	for _, set := range sets {
		set = maps.Clone(set)
		set[verdictName] = json.RawMessage("{}")
		added = append(added, set)
	}
	if len(added) == 0 {
		added = append(added, caddy.ModuleMap{verdictName: json.RawMessage("{}")})
	}
	return added
}

// MatchesError reports whether lb_retry_match matches a request after a transport error, as the proxy
// would find.
func MatchesError(sets caddyhttp.MatcherSets, r *http.Request) (bool, error) {
	if repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer); ok {
		repl.Set(isTransportError, true)
		defer repl.Delete(isTransportError)
	}
	return sets.AnyMatchWithError(r)
}

var _ caddyhttp.RequestMatcherWithError = Verdict{}
