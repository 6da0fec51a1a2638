package call

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/apifailover/caddy-failover/internal/answer"
	"github.com/apifailover/caddy-failover/internal/endpoint"
	"github.com/apifailover/caddy-failover/internal/outcome"
)

// errGivenUp is the error of an answer that came just after its attempt was ended.
var errGivenUp = errors.New("the attempt has ended before its response")

// responseBody is an answer's body that settles its attempt at its end. After its error the proxy
// aborts the client's stream, so a broken answer never looks whole: with HTTP/1 the last chunk or
// byte is missing, with HTTP/2 and HTTP/3 the stream is reset.
type responseBody Attempt

// A brokenBody is the error of a response body that ended too early. It wraps nothing, so the
// proxy never reads it as "the client left".
type brokenBody struct {
	outcome  outcome.Outcome
	endpoint string
	cause    error
}

func (e *brokenBody) Error() string {
	return fmt.Sprintf("body %s at endpoint %s: %v", e.outcome, e.endpoint, e.cause)
}

// addErrorEvent makes an event stream end with an error event if it breaks.
func (a *Attempt) addErrorEvent(resp *http.Response) {
	if isEventStream(resp) {
		resp.Body = &sseBody{responseBody: (*responseBody)(a)}
	}
}

// isEventStream reports whether an event can be added to an answer.
func isEventStream(resp *http.Response) bool {
	kind, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	return err == nil && kind == "text/event-stream" && resp.ContentLength < 0 && resp.Header.Get("Content-Encoding") == ""
}

// sseBody adds an error event to a stream that breaks, for clients that do not notice the abort.
// OpenAI's libraries look for "error" in the data, Anthropic's for the event's name.
type sseBody struct {
	*responseBody
	last *strings.Reader // the error event; nil: not broken
	err  error           // the error after the event
}

// Read implements io.Reader.
func (s *sseBody) Read(p []byte) (int, error) {
	if s.last != nil {
		n, err := s.last.Read(p)
		if err == io.EOF {
			err = s.err
		}
		return n, err
	}
	n, err := s.responseBody.Read(p)
	broken, ok := err.(*brokenBody)
	if !ok {
		return n, err
	}
	message := "the response broke off"
	if broken.outcome == outcome.Stalled {
		message = "the response stopped coming"
	}
	// The blank line ends an unfinished event.
	s.last = strings.NewReader(fmt.Sprintf("\n\nevent: error\ndata: "+
		`{"type":"error","error":{"type":"upstream_error","code":%q,"message":%q}}`+"\n\n", broken.outcome.String(), message))
	s.err = err
	return n, nil
}

// Close implements io.Closer.
func (b *responseBody) Close() error {
	a := (*Attempt)(b)
	err := a.answer.Close()
	if !a.is(bodyOver) {
		o := outcome.Success // the client wanted no more
		if a.clientLeft() {
			o = outcome.Cancelled
		}
		a.BodyEnds(o)
	}
	return err
}

// errCutOff is the error of an event stream that ends as if it were complete, and is not.
var errCutOff = errors.New("stream ended without its last event")

// A tailedBody is an event stream of an API, whose end with errCutOff shows that it is not complete.
type tailedBody struct {
	io.ReadCloser
	attempt *Attempt
	tail    answer.Tail
}

// Read implements io.Reader.
func (b *tailedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.tail.Add(p[:n])
	if err == io.EOF && b.attempt.endsTooSoon(&b.tail) {
		err = errCutOff
	}
	return n, err
}

// endsTooSoon reports whether an event stream that has ended is not complete. It takes this for granted only
// if a stream of the endpoint has said before that it was: some servers never do.
func (a *Attempt) endsTooSoon(t *answer.Tail) bool {
	finishes := &a.Target.State.Finishes
	switch t.Ending() {
	case answer.Finished:
		if !finishes.Load() {
			finishes.Store(true)
		}
	case answer.CutOff:
		return finishes.Load()
	}
	return false
}

// clientLeft reports whether the client has left.
func (a *Attempt) clientLeft() bool {
	return a.client.Err() != nil || a.endedWhy() == endpoint.EndedByClient
}

// bodyOutcome returns the outcome of a response body that ended with err; io.EOF: with its end.
func (a *Attempt) bodyOutcome(err error) outcome.Outcome {
	switch {
	case err == io.EOF:
		if b, ok := a.answer.(*grpcBody); ok {
			o, _ := b.end(time.Now())
			return o
		}
		return outcome.Success // even if the client has left
	case a.clientLeft():
		return outcome.Cancelled
	case a.endedWhy() == endpoint.EndedByIdle:
		return outcome.Stalled
	case a.download.Load().slow():
		return outcome.Cancelled // the endpoint has given up on the client
	case a.Call.grpc && outcome.StreamReset(err) && a.Call.waitedOut(time.Now()):
		return outcome.Cancelled // gRPC servers reset the stream at the client's deadline
	}
	return outcome.Truncated
}

// silenceBegins marks the start of a read of the response body. The time between reads does not
// count, since the client causes it.
func (a *Attempt) silenceBegins(now time.Time) { a.silent.Store(int64(now.Sub(a.Began)) + 1) }

func (a *Attempt) silenceEnds() { a.silent.Store(0) }

// stuck returns why the watcher has to end an answer that has begun, or NotEnded: the silence is too
// long, or the call's deadline has passed while the answer is held back.
func (a *Attempt) stuck(now time.Time) endpoint.Ending {
	since := a.silent.Load()
	if since == 0 {
		return endpoint.NotEnded
	}
	longest, held := a.idle(), a.is(holding)
	if held && longest == 0 {
		longest = a.Timeout
	}
	if longest > 0 && int64(now.Sub(a.Began))-(since-1) >= int64(longest) {
		return endpoint.EndedByIdle
	}
	if held && a.Call.late(now) {
		return endpoint.EndedByDeadline
	}
	return endpoint.NotEnded
}

// upgraded is the two-way body of a 101 response.
type upgraded struct {
	io.ReadWriteCloser
	attempt *Attempt
}

// followUpgraded watches an upgraded connection until its end.
func (a *Attempt) followUpgraded(resp *http.Response) {
	if rwc, ok := resp.Body.(io.ReadWriteCloser); ok {
		resp.Body = &upgraded{rwc, a}
		if c := a.conn.Load(); c != nil {
			c.Upgraded()
		}
		return
	}
	a.answer = resp.Body
	resp.Body = (*responseBody)(a)
}

// CloseWrite closes the sending half of the connection to the endpoint.
func (u *upgraded) CloseWrite() error {
	if half, ok := u.ReadWriteCloser.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return fmt.Errorf("closing for writing: %w", errors.ErrUnsupported)
}

// Close implements io.Closer.
func (u *upgraded) Close() error {
	err := u.ReadWriteCloser.Close()
	u.attempt.settleAnswer("", time.Now(), outcome.Success)
	return err
}
