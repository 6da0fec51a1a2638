package call

import (
	"io"
	"net/http"
	"time"

	"github.com/apifailover/caddy-failover/internal/answer"
	"github.com/apifailover/caddy-failover/internal/grpc"
	"github.com/apifailover/caddy-failover/internal/memory"
	"github.com/apifailover/caddy-failover/internal/outcome"
)

// CommitRules say how much of an answer must arrive before the client gets any of it.
type CommitRules struct {
	Body  bool          // wait for the body to begin
	Until answer.Weight // an event stream begins with its first event of at least this weight
	Hold  int64         // then wait for a whole body of at most this many bytes; 0: do not wait
	JSON  bool          // a whole body whose type is JSON, but which is not valid JSON, is a failure
}

// held is a response body whose beginning was read before the client got anything. It grows as
// the body arrives, while memory.Bodies has room. It is not safe for concurrent use.
type held struct {
	chunks []chunk
	total  int64
	newest []byte        // the bytes of the latest read
	full   bool          // memory.Bodies has no room for more
	wrong  string        // what is wrong with the body, in a few words; empty: nothing
	err    error         // the error after the chunks; nil: rest follows them
	rest   io.ReadCloser // the unread rest of the body
}

// chunk is a part of a held body. Its piece is freed when the client has got it.
type chunk struct {
	*memory.Piece
	from, to int
}

// hold reads as much of an answer as the rules require. After an error it keeps nothing of the
// answer, and the call may move on.
func (a *Attempt) hold(resp *http.Response, rules CommitRules) (*held, error) {
	h := new(held)
	if err := h.readFirst(a, resp, rules.Until); err != nil {
		h.drop()
		return nil, err
	}
	if rules.Hold > 0 {
		if err := h.readRest(a, resp.Body, rules.Hold); err != nil {
			h.drop()
			return nil, err
		}
	}
	return h, nil
}

// heldBack gives a good answer to the client once the configured amount of it has arrived. If the
// answer fails before that, the call moves on if it may.
func (c *Call) heldBack(a *Attempt, resp *http.Response) (*http.Response, error) {
	h, err := a.hold(resp, c.Handler.Commit)
	if err != nil {
		resp.Body.Close()
		return nil, c.failed(a, err, time.Now())
	}
	now := time.Now()
	if b, ok := resp.Body.(*grpcBody); ok && h.err == io.EOF {
		code, _ := grpc.Status(resp.Trailer)
		switch o, _ := b.end(now); {
		case o == outcome.Truncated:
			h.drop()
			resp.Body.Close()
			return nil, c.failed(a, &outcome.BodyError{Cause: io.ErrUnexpectedEOF}, now)
		case o != outcome.Success || code == grpc.Unimplemented:
			h.putBack(resp)
			return c.answeredWith(a, resp, code, b.messages.Some, now)
		}
	}
	if h.err == io.EOF && c.Handler.Commit.Hold > 0 && resp.StatusCode < 300 {
		if resp, err, bad := c.examinedWhole(a, resp, h, now); bad {
			return resp, err
		}
	}
	if h.err == io.EOF && c.Handler.Commit.JSON && answer.HasTail(resp.Header) {
		t := new(answer.Tail)
		h.addTo(t)
		if a.endsTooSoon(t) {
			h.wrong = "a stream that lacks its last event"
			h.putBack(resp)
			return c.answeredBadly(a, resp, outcome.Truncated, now)
		}
	}
	h.give(a, resp)
	if a.sent != nil {
		a.sent.Answering(c.restOfBody())
	}
	c.finished = true
	c.answeredWell(now)
	c.answeredElsewhere(now)
	if a.Watchful {
		a.Target.State.BeganAnswer(a, now, c.Handler.BreakerConfig())
	}
	return resp, nil
}

// examinedWhole deals with a body that is held to its end and shows that the answer is bad: it is
// malformed, or a later event is an error. For good answers it returns bad = false and does nothing.
func (c *Call) examinedWhole(a *Attempt, resp *http.Response, h *held, now time.Time) (_ *http.Response, _ error, bad bool) {
	if !c.Handler.Commit.JSON && !c.Handler.Looks {
		return nil, nil, false
	}
	body := h.bytes()
	if c.Handler.Commit.JSON {
		if err := answer.CheckJSON(resp.Header, body); err != nil {
			h.wrong = err.Error()
			h.putBack(resp)
			resp, err := c.answeredBadly(a, resp, outcome.Truncated, now)
			return resp, err, true
		}
	}
	rule := c.Handler.Answers.Whole(resp.StatusCode, resp.Header, body)
	if rule == nil || rule.As == answer.OK || rule.OfQuota && !a.Target.Quota {
		return nil, nil, false
	}
	h.putBack(resp)
	if rule.As == answer.Next {
		resp, err := c.passedOn(a, resp, now)
		return resp, err, true
	}
	resp, err := c.answeredBadly(a, resp, outcomeOf(rule.As), now)
	return resp, err, true
}

// readFirst reads until the body has begun, and marks the attempt as answered then. An event stream
// begins with its first event of at least the weight until.
func (h *held) readFirst(a *Attempt, resp *http.Response, until answer.Weight) error {
	e := answer.Await(resp.Header)
	for begun := false; !begun && h.err == nil && !h.full; {
		if err := h.read(a, resp.Body, memory.LargestPiece); err != nil {
			return err
		}
		begun = h.total > 0 && (len(h.newest) == 0 || !answer.Blank(resp.Header, h.newest))
		if e != nil {
			begun = e.Add(h.newest) || e.Begun() >= until
		}
	}
	if !a.Answered(time.Now()) || !a.claims() {
		return errGivenUp
	}
	return nil
}

// readRest reads to the end of the body, but at most one byte more than limit in all.
func (h *held) readRest(a *Attempt, body io.Reader, limit int64) error {
	a.set(holding)
	defer a.unset(holding)
	for h.err == nil && h.total <= limit && !h.full {
		if err := h.read(a, body, limit+1-h.total); err != nil {
			return err
		}
	}
	return nil
}

// read adds one read of at most limit bytes.
func (h *held) read(a *Attempt, body io.Reader, limit int64) error {
	h.newest = nil
	if last := len(h.chunks) - 1; last < 0 || h.chunks[last].to == len(h.chunks[last].Data) {
		next := memory.Bodies.Next(h.total, limit)
		if next == nil && last >= 0 {
			h.full = true
			a.Call.Handler.notKept()
			return nil
		}
		if next == nil {
			next = memory.Bodies.Must(h.total, limit) // the first read needs a piece
		}
		h.chunks = append(h.chunks, chunk{Piece: next})
	}
	c := &h.chunks[len(h.chunks)-1]
	room := c.Data[c.to:]
	a.silenceBegins(time.Now())
	n, err := a.download.Load().flowFrom(body, room[:min(int64(len(room)), limit)])
	a.silenceEnds()
	h.newest = room[:n]
	c.to += n
	h.total += int64(n)
	switch {
	case err == nil:
	case err == io.EOF:
		h.err = io.EOF
	default:
		return &outcome.BodyError{Cause: err}
	}
	return nil
}

// give makes the held body the response's body, and watches the attempt to its end.
func (h *held) give(a *Attempt, resp *http.Response) {
	a.final = !a.Call.Handler.Rematches
	if h.err == nil {
		a.follow(resp)
		h.rest = resp.Body
		if b, ok := a.answer.(*tailedBody); ok {
			h.addTo(&b.tail)
		}
	} else {
		resp.Body.Close()
		a.BodyEnds(outcome.Success)
	}
	resp.Body = h
}

// putBack makes a body that was read in part the response's body again.
func (h *held) putBack(resp *http.Response) {
	if h.err == io.EOF {
		resp.Body.Close()
	} else {
		h.rest = resp.Body
	}
	resp.Body = h
}

// brokenBy returns the error with which the body of an answer ends, if it is held; nil: none.
func brokenBy(resp *http.Response) error {
	if h, ok := resp.Body.(*held); ok && h.err != io.EOF {
		return h.err
	}
	return nil
}

// bytes returns what is held. It is valid until the next Read or Close.
func (h *held) bytes() []byte {
	if len(h.chunks) == 1 {
		c := h.chunks[0]
		return c.Data[c.from:c.to]
	}
	joined := make([]byte, 0, h.total)
	for _, c := range h.chunks {
		joined = append(joined, c.Data[c.from:c.to]...)
	}
	return joined
}

// addTo adds what is held to the end of a stream.
func (h *held) addTo(t *answer.Tail) {
	for _, c := range h.chunks {
		t.Add(c.Data[c.from:c.to])
	}
}

// drop frees the chunks.
func (h *held) drop() {
	for _, c := range h.chunks {
		c.Free()
	}
	h.chunks = nil
}

// Read implements io.Reader.
func (h *held) Read(p []byte) (n int, err error) {
	for len(h.chunks) > 0 {
		c := &h.chunks[0]
		n = copy(p, c.Data[c.from:c.to])
		c.from += n
		if c.from == c.to {
			c.Free()
			h.chunks = h.chunks[1:]
		}
		if n > 0 {
			return n, nil
		}
		if len(p) == 0 {
			return 0, nil
		}
	}
	if h.err != nil {
		return 0, h.err
	}
	return h.rest.Read(p)
}

// Close implements io.Closer.
func (h *held) Close() error {
	h.drop()
	if h.err == nil {
		h.err = http.ErrBodyReadAfterClose
	}
	if h.rest != nil {
		return h.rest.Close()
	}
	return nil
}
