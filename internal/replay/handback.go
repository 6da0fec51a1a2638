package replay

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"
)

// errSent is the read error that the next handler gets if the body was sent to an endpoint
// and not kept whole.
var errSent = errors.New("the request's body was sent to an endpoint and not kept: it cannot be sent again")

// HandBack restores the body of Options.Origin for the next handler: the kept bytes, then the unread
// rest. If a part is lost, reading fails. The body is valid until the context of the request ends.
// The client has until the given time to send the rest; zero: no bound.
func (rec *Recording) HandBack(request context.Context, until time.Time) {
	if rec.Origin == nil {
		return
	}
	rec.mu.Lock()
	whole, handed := rec.memory, rec.handed
	var lost error
	switch {
	case rec.err != nil && rec.err != io.EOF:
		lost = rec.err
	case rec.from > 0 || rec.final:
		lost = errSent
	}
	rec.handed = true
	rec.mu.Unlock()
	switch {
	case handed:
		return
	case whole != nil:
		rec.Origin.Body = io.NopCloser(bytes.NewReader(whole))
	case lost != nil:
		rec.Origin.Body = io.NopCloser(failing{lost})
	default:
		r := rec.NewReader(time.Now())
		r.own = nil // the trailers are the request's own
		rec.Origin.Body = &handedBack{Reader: r, until: until}
		context.AfterFunc(request, func() { r.Close() })
	}
	context.AfterFunc(request, rec.Finish)
}

// failing is a body whose Read fails.
type failing struct{ err error }

// Read implements io.Reader.
func (f failing) Read([]byte) (int, error) { return 0, f.err }

// handedBack is a restored body that the next handler may read.
type handedBack struct {
	*Reader
	until  time.Time
	resume sync.Once
}

// Read implements io.Reader.
func (h *handedBack) Read(p []byte) (int, error) {
	h.resume.Do(func() { h.Recording.readOn(h.until) })
	return h.Reader.Read(p)
}

// readOn undoes StopReading: it replaces the client's read deadline by until.
func (rec *Recording) readOn(until time.Time) {
	rec.mu.Lock()
	stopped := rec.stopped
	rec.stopped = false
	rec.mu.Unlock()
	if stopped && rec.client != nil {
		_ = http.NewResponseController(rec.client).SetReadDeadline(until) // if it is supported
	}
}
