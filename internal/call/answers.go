package call

import (
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/apifailover/caddy-failover/internal/answer"
	"github.com/apifailover/caddy-failover/internal/grpc"
	"github.com/apifailover/caddy-failover/internal/jsondoc"
	"github.com/apifailover/caddy-failover/internal/outcome"
)

// readable limits Accept-Encoding to codings that rules can read.
func readable(h http.Header) {
	accepted, ok := h["Accept-Encoding"]
	switch {
	case !ok:
	case acceptsGzip(accepted):
		h.Set("Accept-Encoding", "gzip")
	default:
		h.Set("Accept-Encoding", "identity")
	}
}

// acceptsGzip reports whether a client takes gzip, by its Accept-Encoding (RFC 9110, section 12.5.3).
func acceptsGzip(fields []string) bool {
	for _, field := range fields {
		for one := range strings.SplitSeq(field, ",") {
			coding, parameters, _ := strings.Cut(one, ";")
			coding = strings.TrimSpace(coding)
			if !strings.EqualFold(coding, "gzip") && !strings.EqualFold(coding, "x-gzip") {
				continue
			}
			name, value, _ := strings.Cut(parameters, "=")
			weight, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if !strings.EqualFold(strings.TrimSpace(name), "q") || err != nil || weight > 0 {
				return true
			}
		}
	}
	return false
}

// outcomeOf returns the outcome of an answer with a meaning.
func outcomeOf(m answer.Meaning) outcome.Outcome {
	switch m {
	case answer.Failure:
		return outcome.FailedStatus
	case answer.Held:
		return outcome.RateLimited
	case answer.Denied:
		return outcome.Denied
	}
	return outcome.Success
}

// examined deals with an answer that a rule may match. o is its outcome by its status.
func (c *Call) examined(a *Attempt, resp *http.Response, o outcome.Outcome, now time.Time) (*http.Response, error) {
	rule, flaw, looked := a.look(resp, o)
	if c.queued && a.dial() == nil {
		well := o == outcome.Success && flaw == "" && brokenBy(resp) == nil
		if rule != nil && (!rule.OfQuota || a.Target.Quota) {
			well = outcomeOf(rule.As) == outcome.Success
		}
		c.leavesLane(now.Sub(a.Began), well)
	}
	if looked {
		now = time.Now()
	}
	if err := brokenBy(resp); err != nil && rule == nil && o == outcome.Success {
		resp.Body.Close()
		return nil, c.failed(a, err, now)
	}
	switch {
	case rule == nil && flaw != "" && a.Answered(now):
		if h, ok := resp.Body.(*held); ok {
			h.wrong = flaw
		}
		return c.answeredBadly(a, resp, outcome.Truncated, now)
	case rule == nil || rule.OfQuota && !a.Target.Quota:
		if c.grpc && resp.StatusCode == http.StatusOK && o == outcome.Success && grpc.Is(resp.Header) {
			return c.answeredGRPC(a, resp, now)
		}
	case rule.As == answer.Next && a.Answered(now):
		return c.passedOn(a, resp, now)
	default:
		o = outcomeOf(rule.As)
	}
	return c.dealWith(a, resp, o, now)
}

// look returns the rule that an answer matches, nil if none does, what the answer is instead of the
// data that the API promises, and whether it read the body. It reads only as much of the body as it
// needs, and puts that back. An answer with a bad status counts as begun with its headers.
func (a *Attempt) look(resp *http.Response, o outcome.Outcome) (rule *answer.Rule, flaw string, looked bool) {
	h := a.Call.Handler
	rule, e := h.Answers.Examine(resp.StatusCode, resp.Header)
	if e == nil {
		return rule, "", false
	}
	ended := false
	if h.Commit.Body && o == outcome.Success {
		ended = a.read(resp, e, func() bool { return e.Begun() >= max(h.Commit.Until, answer.Preamble) })
	} else if a.Answered(time.Now()) {
		ended = a.read(resp, e, nil)
	}
	switch {
	case !a.Call.wantsData(resp):
	case answer.IsPage(resp.Header):
		flaw = answer.FlawPage
	default:
		flaw = e.Flaw(ended && a.Call.wantsBody(resp))
	}
	if rule = e.Matched(); rule != nil && rule.OfAPI && a.Call.describes(resp) {
		rule = nil
	}
	return rule, flaw, true
}

// describes reports whether an answer describes a thing that was asked for by GET, such as an earlier call
// that failed. Errors in it are not the endpoint's now.
func (c *Call) describes(resp *http.Response) bool {
	h, ok := resp.Body.(*held)
	if !ok || c.Request.Method != http.MethodGet || resp.StatusCode/100 != 2 {
		return false
	}
	body := answer.Unpack(resp.Header, h.bytes())
	_, found := jsondoc.Find(body, idPath, true)
	return found == jsondoc.Here
}

var idPath = jsondoc.Named("id")

// wantsData reports whether an answer is data in any case, by its API: it is a good answer to a POST.
func (c *Call) wantsData(resp *http.Response) bool {
	return c.Handler.Commit.JSON && c.Request.Method == http.MethodPost && resp.StatusCode/100 == 2
}

// wantsBody reports whether an answer in which its API promises data has any: its request had a body,
// and the API does not answer such requests without one.
func (c *Call) wantsBody(resp *http.Response) bool {
	return resp.StatusCode == http.StatusOK && c.body != nil && c.Handler.API.Replies(c.body.Whole())
}

// read reads an answer's body until the Examiner needs no more, and puts the body back. It marks
// the attempt as answered when begins returns true; nil: the attempt is answered already. It reports
// whether it has read the body to its end.
func (a *Attempt) read(resp *http.Response, e *answer.Examiner, begins func() bool) (ended bool) {
	h := new(held)
	answered := begins == nil
	if answered {
		a.set(holding)
	}
	for over := false; !over && h.err == nil && !h.full && (!answered || time.Since(a.Began) < a.Timeout); {
		if err := h.read(a, resp.Body, answer.LooksAt); err != nil {
			h.err = err
		}
		over = e.Add(h.newest)
		if !answered && h.total > 0 && begins() && a.Answered(time.Now()) {
			answered = true
			a.set(holding)
		}
	}
	a.unset(holding)
	e.End()
	ended = h.err == io.EOF
	h.putBack(resp)
	return ended
}
