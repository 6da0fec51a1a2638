package call

import (
	"net/http"
	"strings"
	"time"

	"github.com/apifailover/caddy-failover/internal/answer"
	"github.com/apifailover/caddy-failover/internal/grpc"
	"github.com/apifailover/caddy-failover/internal/outcome"
)

// readQuotas tells the endpoint the quotas that an answer states. It is not for a 429, which causes a
// hold instead.
func (a *Attempt) readQuotas(resp *http.Response, now time.Time) {
	var room [6]outcome.Quota
	quotas := outcome.ReadQuotas(room[:0], resp.Header, a.Call.Handler.Quotas, now)
	if len(quotas) > 0 && a.Target.State.Quotas(a, now, quotas) {
		a.Call.Handler.Pool.Rebuild(now)
	}
}

// waitPatience is how long to wait for the body of a 429, which may say how long to stay away.
const waitPatience = time.Second

// askedToWait returns how long an answer with outcome o asks us to stay away, at most
// outcome.MaxHold; 0: it does not say. If a 429 lacks the usual fields, it looks in the body, and puts
// that back.
func (a *Attempt) askedToWait(resp *http.Response, o outcome.Outcome, now time.Time) time.Duration {
	if fields := grpcFields(resp); fields != nil {
		wait, _ := grpc.RetryAfter(fields)
		return wait
	}
	limited := o == outcome.RateLimited || resp.StatusCode == http.StatusTooManyRequests
	if !limited && resp.StatusCode != http.StatusServiceUnavailable {
		return 0
	}
	if wait, ok := outcome.RetryAfter(resp.Header, now); ok || !limited {
		return wait
	}
	if wait, ok := outcome.QuotaReset(resp.Header, now); ok {
		return wait
	}
	if !strings.Contains(strings.ToLower(resp.Header.Get("Content-Type")), "json") {
		return 0
	}
	a.set(holding)
	body := a.fill(resp, func(error) {})
	timer := time.NewTimer(waitPatience)
	defer timer.Stop()
	select {
	case <-timer.C: // too late
		return 0
	case <-body.done:
	}
	a.unset(holding)
	wait, _ := outcome.ParseRetryInfo(answer.Unpack(resp.Header, body.held.bytes()))
	return wait
}
