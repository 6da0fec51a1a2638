package call

import (
	"io"
	"net/http"
	"time"

	"github.com/apifailover/caddy-failover/internal/endpoint"
	"github.com/apifailover/caddy-failover/internal/grpc"
	"github.com/apifailover/caddy-failover/internal/outcome"
)

// An answer of gRPC has the HTTP status 200. Its gRPC status is in the trailers after its body or, if
// it has no body, in its header (a trailers-only answer).

// isGRPC reports whether a request is a gRPC call, which needs HTTP/2.
func isGRPC(r *http.Request) bool {
	return r.ProtoMajor > 1 && r.Method == http.MethodPost && grpc.Is(r.Header)
}

// answeredGRPC deals with an answer with the HTTP status 200 to a gRPC call.
func (c *Call) answeredGRPC(a *Attempt, resp *http.Response, now time.Time) (*http.Response, error) {
	if code, ok := grpc.Status(resp.Header); ok {
		a.Single = true
		return c.answeredWith(a, resp, code, false, now)
	}
	resp.Body = &grpcBody{ReadCloser: resp.Body, resp: resp, attempt: a}
	return c.dealWith(a, resp, outcome.Success, now)
}

// answeredWith deals with an answer whose gRPC status is known before the client has any of it.
// began says that a part of a message has arrived.
func (c *Call) answeredWith(a *Attempt, resp *http.Response, code grpc.Code, began bool, now time.Time) (*http.Response, error) {
	switch o := c.grpcOutcome(a, code, began, now); {
	case o == outcome.Cancelled:
		return c.answeredInVain(a, resp, now)
	case code == grpc.Unimplemented && !began && a.Answered(now):
		return c.passedOn(a, resp, now)
	default:
		return c.dealWith(a, resp, o, now)
	}
}

// grpcOutcome returns the outcome of an attempt with this gRPC status. began says that a part of a
// message has arrived.
func (c *Call) grpcOutcome(a *Attempt, code grpc.Code, began bool, now time.Time) outcome.Outcome {
	if code == grpc.DeadlineExceeded && c.waitedOut(now) {
		return outcome.Cancelled // the client waits no longer
	}
	return code.Outcome(began, a.Target.Quota)
}

// waitedOut reports whether a client that has left had waited as long as it wanted to. A gRPC client
// says how long that is, and may leave a stream earlier because it wants no more. For other
// clients it is true.
func (c *Call) waitedOut(now time.Time) bool {
	if !c.grpc {
		return true
	}
	deadline, ok := grpc.Deadline(c.Request.Header)
	return ok && now.Sub(c.began()) >= deadline-deadline/8 // the client's clock began earlier
}

// atDeadline returns an answer with the status DEADLINE_EXCEEDED if the server has reset the stream at
// the client's deadline, as servers do that have no answer by then. Otherwise it returns err.
func (c *Call) atDeadline(a *Attempt, err error, now time.Time) (*http.Response, error) {
	if !outcome.StreamReset(err) || a.endedWhy() != endpoint.NotEnded || a.client.Err() != nil || !c.waitedOut(now) {
		return nil, err
	}
	return &http.Response{
		Status:     "200 OK",
		StatusCode: http.StatusOK,
		Proto:      "HTTP/2.0",
		ProtoMajor: 2,
		Header:     http.Header{"Content-Type": {"application/grpc"}, "Grpc-Status": {"4"}, "Grpc-Message": {"deadline exceeded"}},
		Body:       http.NoBody,
		Request:    c.Request,
	}, nil
}

// answeredInVain deals with an answer that says that the client's own deadline has passed. It counts
// as if the client had left.
func (c *Call) answeredInVain(a *Attempt, resp *http.Response, now time.Time) (*http.Response, error) {
	a.ClientLeft = true
	a.Settle(now, outcome.Cancelled, false)
	if a.race() != nil && a.overtaken() {
		resp.Body.Close()
		a.Settle(now, outcome.Cancelled, true)
		return nil, errOvertaken
	}
	c.finished = true
	c.blameSuspects(now)
	if !c.Handler.Rematches {
		c.record(a, outcome.Cancelled)
	}
	a.follow(resp)
	return resp, nil
}

// A grpcBody is the body of an answer that ends with trailers.
type grpcBody struct {
	io.ReadCloser
	resp     *http.Response
	attempt  *Attempt
	messages grpc.Messages
	tells    bool // tell the breaker when the first message has arrived
}

// Read implements io.Reader.
func (b *grpcBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.messages.Add(p[:n])
	if b.tells && b.messages.Whole > 0 {
		b.tells = false
		b.attempt.Target.State.BeganAnswer(b.attempt, time.Now(), b.attempt.Call.Handler.BreakerConfig())
	}
	return n, err
}

// beganAnswer tells the breaker that a good answer has begun. An answer of gRPC begins with its first
// message, because failing endpoints send a header, too.
func (c *Call) beganAnswer(a *Attempt, resp *http.Response, now time.Time) {
	if b, ok := resp.Body.(*grpcBody); ok {
		b.tells = true
		return
	}
	a.Target.State.BeganAnswer(a, now, c.Handler.BreakerConfig())
}

// end returns the outcome of a body that has ended, and its gRPC status in a few words.
func (b *grpcBody) end(now time.Time) (outcome.Outcome, string) {
	a := b.attempt
	code, ok := grpc.Status(b.resp.Trailer)
	if !ok {
		return outcome.Truncated, "no gRPC status"
	}
	a.Single = b.messages.Whole < 2 && (b.messages.Some || code != grpc.OK)
	o := a.Call.grpcOutcome(a, code, b.messages.Some, now)
	if o.Failed() {
		a.RetryAfter, _ = grpc.RetryAfter(b.resp.Trailer)
	}
	return o, whatCode(code)
}

// grpcFields returns the fields that have an answer's gRPC status; nil if there are none.
func grpcFields(resp *http.Response) http.Header {
	if resp.StatusCode != http.StatusOK || !grpc.Is(resp.Header) {
		return nil
	}
	if _, ok := grpc.Status(resp.Header); ok {
		return resp.Header
	}
	return resp.Trailer
}

// whatCode returns a gRPC status in a few words.
func whatCode(code grpc.Code) string { return "gRPC " + code.String() }
