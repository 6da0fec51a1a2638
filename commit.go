package failover

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	mem "github.com/apifailover/caddy-failover/internal/memory"
	"github.com/apifailover/caddy-failover/internal/outcome"
)

// The ways of commit.
const (
	commitHeaders   = "headers"
	commitFirstByte = "first_byte"
	commitComplete  = "complete"
)

// defaultCommitSize is how much of an answer `complete` holds.
const defaultCommitSize = 1 << 20

// Commit says what must have come from an endpoint before the client gets
// anything of it. Until then a call can still move on to another endpoint.
type Commit struct {
	// `headers`; `first_byte` (headers and the first byte of the body); or
	// `complete` (the whole answer, up to `size`; what is larger is passed on as it
	// comes from there on). Default: `headers`.
	After string `json:"after,omitempty"`

	// Bytes of a body that `complete` holds. Default: 1048576 (1 MiB).
	Size int64 `json:"size,omitempty"`
}

func (c *Commit) validate() error {
	if c == nil {
		return nil
	}
	switch c.After {
	case "", commitHeaders, commitFirstByte, commitComplete:
	default:
		return fmt.Errorf("commit must be %s, %s or %s, not %q", commitHeaders, commitFirstByte, commitComplete, c.After)
	}
	if c.Size < 0 {
		return errors.New("commit: size must not be negative")
	}
	if c.Size > 0 && c.After != commitComplete {
		return fmt.Errorf("commit: only %s has a size", commitComplete)
	}
	return nil
}

// commitRules are Commit, ready for use.
type commitRules struct {
	body bool  // wait for a byte of the body
	hold int64 // and then for the rest, if it is no longer; 0: no
}

func (c *Commit) rules() commitRules {
	switch {
	case c == nil:
		return commitRules{}
	case c.After == commitFirstByte:
		return commitRules{body: true}
	case c.After == commitComplete && c.Size == 0:
		return commitRules{body: true, hold: defaultCommitSize}
	case c.After == commitComplete:
		return commitRules{body: true, hold: c.Size}
	}
	return commitRules{}
}

// held is a response body of which some was read before the client got anything.
// It is read by one goroutine. It grows as the body comes, as long as the process has
// memory for it.
type held struct {
	chunks []chunk
	total  int64
	full   bool          // there is no memory for more
	err    error         // what comes after the chunks; nil: rest
	rest   io.ReadCloser // watches the attempt
}

// chunk is a piece of a held body, which goes back when the client has got it.
type chunk struct {
	*mem.Piece
	from, to int
}

// hold reads what the rules want of an answer. If that fails the call can move on,
// and nothing of the answer is left.
func (a *attempt) hold(resp *http.Response, rules commitRules) error {
	h := new(held)
	if err := h.first(a, resp.Body); err != nil {
		h.drop()
		return err
	}
	if rules.hold > 0 {
		if err := h.more(a, resp.Body, rules.hold); err != nil {
			h.drop()
			return err
		}
	}
	h.give(a, resp)
	return nil
}

// heldBack deals with a good answer of which the client gets nothing before as much has
// come as the pool wants.
func (c *call) heldBack(a *attempt, resp *http.Response) (*http.Response, error) {
	if err := a.hold(resp, c.handler.commit); err != nil {
		resp.Body.Close()
		return nil, c.failed(a, err, time.Now())
	}
	c.finish()
	c.dropKept()
	c.blameSuspects(time.Now())
	if a.watchful {
		a.target.state.beganAnswer(a, time.Now(), c.handler.breakerConfig())
	}
	return resp, nil
}

// first reads until the body has begun, which is when the attempt is answered.
func (h *held) first(a *attempt, body io.Reader) error {
	for h.total == 0 && h.err == nil {
		if err := h.read(a, body, mem.LargestPiece); err != nil {
			return err
		}
	}
	if !a.answered(time.Now()) || !a.claims() {
		return errGivenUp
	}
	return nil
}

// more reads up to the end of the body if it is not longer than limit.
func (h *held) more(a *attempt, body io.Reader, limit int64) error {
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
func (h *held) read(a *attempt, body io.Reader, limit int64) error {
	if last := len(h.chunks) - 1; last < 0 || h.chunks[last].to == len(h.chunks[last].Data) {
		next := bodies.Next(h.total, limit)
		if next == nil && last >= 0 {
			h.full = true
			a.call.handler.notKept()
			return nil
		}
		if next == nil {
			next = bodies.Must(h.total, limit) // nothing can be read without
		}
		h.chunks = append(h.chunks, chunk{Piece: next})
	}
	c := &h.chunks[len(h.chunks)-1]
	room := c.Data[c.to:]
	a.silenceBegins(time.Now())
	n, err := body.Read(room[:min(int64(len(room)), limit)])
	a.silenceEnds()
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

// give makes the body, which is held as far as it was wanted, that of the response.
func (h *held) give(a *attempt, resp *http.Response) {
	a.final = !a.call.handler.rematches
	if h.err == nil {
		a.follow(resp)
		h.rest = resp.Body
	} else {
		resp.Body.Close()
		a.bodyEnds(outcome.Success)
	}
	resp.Body = h
}

// drop frees what is held.
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
