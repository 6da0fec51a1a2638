package call

import (
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/apifailover/caddy-failover/internal/endpoint"
	"github.com/apifailover/caddy-failover/internal/grpc"
	"github.com/apifailover/caddy-failover/internal/outcome"
	"github.com/apifailover/caddy-failover/internal/target"
)

// Asked returns the method and path of the attempt's request, shortened for display.
func (a *Attempt) Asked() (method, path string) {
	if a.Call == nil || a.Call.Request == nil {
		return "", ""
	}
	r := a.Call.Request
	return target.ShownMethod(r.Method), target.ShownPath(r.URL)
}

// whatFailed returns in a few words why an attempt got no answer.
func (a *Attempt) whatFailed(err error, now time.Time) string {
	switch a.endedWhy() {
	case endpoint.EndedByTimeout:
		return "timeout after " + a.Timeout.String()
	case endpoint.EndedByDeadline:
		return "timeout after " + now.Sub(a.Began).Round(time.Millisecond).String() + ", at the request's deadline"
	case endpoint.EndedByIdle:
		return a.whatStalled()
	case endpoint.EndedByRescue:
		return "no response within " + now.Sub(a.Began).Round(time.Millisecond).String()
	}
	return target.Short(err)
}

// whatStalled returns for how long an answer has been silent.
func (a *Attempt) whatStalled() string {
	longest := a.idle()
	if longest == 0 {
		longest = a.Timeout
	}
	return "silent for " + longest.String()
}

// whatBroke returns in a few words why a body broke; empty if it did not.
func (a *Attempt) whatBroke(o outcome.Outcome, err error) string {
	switch {
	case !o.Failed():
		return ""
	case o == outcome.Stalled:
		return a.whatStalled()
	}
	if b, ok := a.answer.(*grpcBody); ok && err == io.EOF {
		_, what := b.end(time.Now())
		return what
	}
	return outcome.Short(&outcome.BodyError{Cause: err})
}

// whatStatus returns in a few words what was wrong with an answer.
func whatStatus(resp *http.Response) string {
	if fields := grpcFields(resp); fields != nil {
		if code, ok := grpc.Status(fields); ok {
			return whatCode(code)
		}
	}
	if h, ok := resp.Body.(*held); ok && h.wrong != "" {
		return strconv.Itoa(resp.StatusCode) + " with " + h.wrong
	}
	if resp.StatusCode < 400 {
		return strconv.Itoa(resp.StatusCode) + " with an error in the body"
	}
	return strconv.Itoa(resp.StatusCode)
}

// failoverDetails returns the details of the event for a move away from an attempt.
func (c *Call) failoverDetails(a *Attempt, what string, now time.Time) map[string]any {
	details := map[string]any{"attempt": int(c.Attempts) - 1, "duration_seconds": now.Sub(a.Began).Seconds()}
	cause := endpoint.Cause{What: what}
	cause.Method, cause.Path = a.Asked()
	cause.AddTo(details)
	return details
}

// whatOfRival returns in a few words why a rival got no good answer; empty if it did not fail.
func (a *Attempt) whatOfRival(resp *http.Response, o outcome.Outcome, err error, now time.Time) string {
	switch {
	case !o.Failed():
		return ""
	case resp != nil && a.endedWhy() == endpoint.NotEnded && o != outcome.Truncated:
		return whatStatus(resp)
	}
	return a.whatFailed(err, now)
}
