package endpoint

import (
	"math/rand/v2"
	"net/http"
	"reflect"
	"regexp"
	"time"

	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/outcome"
)

// A CheckConfig holds the settings of an endpoint's checks. It is read-only.
type CheckConfig struct {
	Ask
	Interval, FastInterval, Timeout time.Duration
	Passes, Fails                   int
}

// An Ask is the request of a check, and which responses pass.
type Ask struct {
	Method, Path, Query string // empty Path and Query: the base URL itself
	RawPath             string // the escaped path if it is not the default one, as in url.URL
	Port                int    // 0: the port of calls
	Expect              *outcome.StatusSet
	Pattern             *regexp.Regexp
	Headers             http.Header
	Body                string
	GRPC                bool   // a check by grpc.health.v1, which uses only Port, Headers and Service
	Service             string // the gRPC service to check; empty: the whole server
}

// equal reports whether two checks ask the same.
func (a *Ask) equal(other *Ask) bool {
	return a == other || a.Method == other.Method && a.Path == other.Path && a.Query == other.Query && a.RawPath == other.RawPath && a.Port == other.Port &&
		a.Body == other.Body && a.GRPC == other.GRPC && a.Service == other.Service && reflect.DeepEqual(a.Headers, other.Headers) && reflect.DeepEqual(a.Expect, other.Expect) &&
		(a.Pattern == nil) == (other.Pattern == nil) && (a.Pattern == nil || a.Pattern.String() == other.Pattern.String())
}

// A CheckOverride holds an endpoint's own settings of checks, which replace the pool's. It is
// read-only.
type CheckOverride struct {
	Off         bool   // the endpoint is not checked
	Method, Uri string // empty: the pool's
	GRPC        bool   // as in Ask, instead of the pool's check
	Service     string
}

// checkJitter spreads the checks of many instances.
const checkJitter = 0.1

// riseAndFall returns run after another result: passes in a row above 0, failures below.
func riseAndFall(run int, passed bool) int {
	if passed {
		return max(0, run) + 1
	}
	return min(0, run) - 1
}

// verdict returns what a run of results means: 1 the endpoint works, -1 it does not, 0
// undecided.
func (cfg *CheckConfig) verdict(run int) int {
	switch {
	case run >= cfg.Passes:
		return 1
	case -run >= cfg.Fails:
		return -1
	}
	return 0
}

// pause returns the time until the next check, before jitter. found is how many checks in a
// row found the breaker open.
func (cfg *CheckConfig) pause(run int, state breaker.State, found int) time.Duration {
	switch {
	case cfg.verdict(run) == 0, state == breaker.Recovering:
		return cfg.FastInterval
	case state == breaker.Open:
		pause := cfg.FastInterval
		for ; found > 1 && pause < cfg.Interval; found-- {
			pause *= 2
		}
		return min(pause, cfg.Interval)
	}
	return cfg.Interval
}

// jittered returns a pause with ± checkJitter.
func jittered(pause time.Duration) time.Duration {
	return time.Duration(float64(pause) * (1 - checkJitter + 2*checkJitter*rand.Float64()))
}
