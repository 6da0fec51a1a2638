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

// A CheckConfig is what the checks of an endpoint run by. It is read-only.
type CheckConfig struct {
	Ask
	Interval, FastInterval, Timeout time.Duration
	Passes, Fails                   int
}

// An Ask is what a check asks for, and which answers pass.
type Ask struct {
	Method, Path, Query string // both empty: the base URL itself
	RawPath             string // the path as it is sent, where that is another than usual
	Port                int    // 0: that of the calls
	Expect              *outcome.StatusSet
	Pattern             *regexp.Regexp
	Headers             http.Header
	Body                string
}

// equal tells whether two configurations ask the same of an endpoint.
func (a *Ask) equal(other *Ask) bool {
	return a == other || a.Method == other.Method && a.Path == other.Path && a.Query == other.Query && a.RawPath == other.RawPath && a.Port == other.Port &&
		a.Body == other.Body && reflect.DeepEqual(a.Headers, other.Headers) && reflect.DeepEqual(a.Expect, other.Expect) &&
		(a.Pattern == nil) == (other.Pattern == nil) && (a.Pattern == nil || a.Pattern.String() == other.Pattern.String())
}

// A CheckOverride is what one endpoint says of its checks, which comes before what its pool
// says. It is read-only.
type CheckOverride struct {
	Off         bool   // it is not checked
	Method, Uri string // empty: the pool's
}

// checkJitter spreads the checks of many instances.
const checkJitter = 0.1

// riseAndFall counts results in a row: passes above 0, failures below.
func riseAndFall(run int, passed bool) int {
	if passed {
		return max(0, run) + 1
	}
	return min(0, run) - 1
}

// verdict says what a run of results means: 1 the endpoint is well, -1 it is
// not, 0 that is undecided.
func (cfg *CheckConfig) verdict(run int) int {
	switch {
	case run >= cfg.Passes:
		return 1
	case -run >= cfg.Fails:
		return -1
	}
	return 0
}

// pause is the time until the next check of an endpoint, before jitter, given
// the run of its results, where its breaker stands, and how many checks have
// found that open.
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

// jittered spreads a pause by ± checkJitter.
func jittered(pause time.Duration) time.Duration {
	return time.Duration(float64(pause) * (1 - checkJitter + 2*checkJitter*rand.Float64()))
}
