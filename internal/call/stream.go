package call

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/apifailover/caddy-failover/internal/endpoint"
	"github.com/apifailover/caddy-failover/internal/outcome"
)

// errGivenUp stands for an answer that came when its attempt had just been ended.
var errGivenUp = errors.New("the attempt had been given up")

// responseBody watches how an answer ends. An error that it returns makes the
// proxy abort the client's stream, which therefore never looks whole: HTTP/1
// without the last chunk or byte, HTTP/2 and HTTP/3 by a reset.
type responseBody Attempt

// A brokenBody is a response body that ended too early. It is never read as "the
// client left".
type brokenBody struct {
	outcome  outcome.Outcome
	endpoint string
	cause    error
}

func (e *brokenBody) Error() string {
	return fmt.Sprintf("body %s at endpoint %s: %v", e.outcome, e.endpoint, e.cause)
}

// addErrorEvent has an answer end with an event if it breaks, where it is of events.
func (a *Attempt) addErrorEvent(resp *http.Response) {
	if isEventStream(resp) {
		resp.Body = &sseBody{responseBody: (*responseBody)(a)}
	}
}

// isEventStream tells whether another event can be added to an answer.
func isEventStream(resp *http.Response) bool {
	kind, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	return err == nil && kind == "text/event-stream" && resp.ContentLength < 0 && resp.Header.Get("Content-Encoding") == ""
}

// sseBody adds an event to a stream that breaks, so that its reader learns of it
// even if it does not see the end of the connection as an error. OpenAI's clients
// look for "error" in the data, Anthropic's for the event's name.
type sseBody struct {
	*responseBody
	last *strings.Reader // the event; nil: not broken
	err  error           // after it
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
	message := "the answer broke off"
	if broken.outcome == outcome.Stalled {
		message = "the answer stopped coming"
	}
	// the blank line ends an event that had begun
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
		o := outcome.Success // as far as it was wanted
		if a.clientLeft() {
			o = outcome.Cancelled
		}
		a.BodyEnds(o)
	}
	return err
}

// clientLeft tells whether the client has gone.
func (a *Attempt) clientLeft() bool {
	return a.client.Err() != nil || a.endedWhy() == endpoint.EndedByClient
}

// bodyOutcome says what the end of a response body means. No sentinel within it
// is asked for.
func (a *Attempt) bodyOutcome(err error) outcome.Outcome {
	switch {
	case err == io.EOF:
		if b, ok := a.answer.(*grpcBody); ok {
			o, _ := b.end(time.Now())
			return o
		}
		return outcome.Success // whatever the client has done meanwhile
	case a.clientLeft():
		return outcome.Cancelled
	case a.endedWhy() == endpoint.EndedByIdle:
		return outcome.Stalled
	case a.download.slow():
		return outcome.Cancelled // the endpoint has given up on the client
	case a.Call.grpc && outcome.StreamReset(err) && a.Call.waitedOut(time.Now()):
		return outcome.Cancelled // servers of gRPC do that at the client's deadline
	}
	return outcome.Truncated
}

// silenceBegins marks the start of a read of the response body. Time between
// reads is the client's.
func (a *Attempt) silenceBegins(now time.Time) { a.silent.Store(int64(now.Sub(a.Began)) + 1) }

func (a *Attempt) silenceEnds() { a.silent.Store(0) }

// stuck tells the watcher whether an answer that has begun has to end, and why:
// because it has been silent for too long or, while nothing of it has gone to the
// client, because of the call's deadline.
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

// followUpgraded watches a connection that speaks another protocol from now on.
func (a *Attempt) followUpgraded(resp *http.Response) {
	if rwc, ok := resp.Body.(io.ReadWriteCloser); ok {
		resp.Body = &upgraded{rwc, a}
		return
	}
	a.answer = resp.Body
	resp.Body = (*responseBody)(a)
}

// CloseWrite tells the endpoint that the client will send no more; what the
// endpoint still has to say goes on.
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
