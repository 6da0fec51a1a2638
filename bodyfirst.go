package failover

import (
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/apifailover/caddy-failover/internal/outcome"
)

// smallBody is how large a body is at most that is read before the first attempt. Up
// to about that size, that of Caddy's write buffer, net/http sends head and body in
// one write if the body is in memory; else the head goes first. And a client that
// is slow with it keeps no endpoint waiting.
const smallBody = 4 << 10

// errClientSlow says that the deadline passed while the client was waited for.
var errClientSlow = errors.New("the client did not send the request's body before the deadline")

// clientSlow is errClientSlow as the client gets it.
func clientSlow() error { return caddyhttp.Error(http.StatusRequestTimeout, errClientSlow) }

// small tells whether the body of a request is to be read before the first attempt:
// not if the client wants it to be passed on as it comes, waits for a word of the
// endpoint, or has trailers to send.
func (h *callHandler) small(r *http.Request) bool {
	return r.ContentLength > 0 && r.ContentLength <= min(smallBody, h.retry.buffer) && !h.edits &&
		len(r.Trailer) == 0 && r.Header["Expect"] == nil && !caddyhttp.IsIncremental(r.Header)
}

// readSmall reads a small body, in as long as patience says; 0: as long as it takes.
// Where there is no memory for it, it is left to the attempt.
func (rec *recording) readSmall(patience time.Duration) error {
	if !bodies.Reserve(rec.expect) {
		rec.mu.Lock()
		rec.lackLocked()
		rec.limit = -1
		rec.mu.Unlock()
		return nil
	}
	rec.mu.Lock()
	rec.taken = rec.expect
	rec.mu.Unlock()
	if patience > 0 {
		return rec.readPatiently(patience)
	}
	body := make([]byte, rec.expect)
	if _, err := io.ReadFull(rec.source, body); err != nil {
		return err
	}
	rec.mu.Lock()
	rec.memory, rec.total, rec.err = body, rec.expect, io.EOF
	rec.mu.Unlock()
	return nil
}

// readPatiently reads a body of a declared length for as long as patience says.
func (rec *recording) readPatiently(patience time.Duration) error {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	if err := rec.readUpToLocked(rec.expect, patience); err != nil {
		return err
	}
	switch {
	case rec.total >= rec.expect:
		rec.joinLocked()
		rec.err = io.EOF
		return nil
	case rec.err == io.EOF:
		return io.ErrUnexpectedEOF
	}
	return rec.err
}

// readAhead reads source to its end, or further than the limit, before any
// attempt does. What it returns is the whole body; false if it is longer than the limit, or
// there was no memory for it.
func (rec *recording) readAhead(patience time.Duration) (body []byte, whole bool, err error) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	if err := rec.readUpToLocked(rec.limit+1, patience); err != nil {
		return nil, false, err
	}
	switch {
	case rec.err != nil && rec.err != io.EOF:
		return nil, false, rec.err
	case rec.err == nil || rec.total > rec.limit:
		return nil, false, nil
	}
	bodies.Take(rec.total)
	rec.taken += rec.total
	rec.joinLocked()
	return rec.memory, true, nil
}

// readUpToLocked reads source until so much is in, it ends, or there is no memory for
// more. With a patience it reads no longer than that, else on this goroutine.
func (rec *recording) readUpToLocked(enough int64, patience time.Duration) error {
	if patience > 0 {
		timer := time.AfterFunc(patience, func() {
			rec.mu.Lock()
			rec.late = true
			rec.read.Broadcast()
			rec.mu.Unlock()
		})
		defer timer.Stop()
	}
	for rec.err == nil && rec.total < enough {
		if rec.late {
			return errClientSlow
		}
		if rec.reading {
			rec.read.Wait()
			continue
		}
		room := rec.keepingLocked()
		if room == nil {
			return nil
		}
		rec.reading = true
		if patience > 0 {
			go rec.readInto(room, true)
			continue
		}
		rec.mu.Unlock()
		rec.readInto(room, true)
		rec.mu.Lock()
	}
	return nil
}

// joinLocked makes the pieces one. Their memory is freed, and what has been taken for
// the whole stays taken until the record is not needed any longer.
func (rec *recording) joinLocked() {
	rec.memory = make([]byte, 0, rec.total)
	for _, p := range rec.pieces {
		rec.memory = append(rec.memory, p.Data[:p.n]...)
	}
	rec.freeLocked(0)
}

// prepareBody reads the body of a call before its first attempt, where it is small or
// some endpoints have it edited, and returns the time: the client's own is over then.
// The error is that of the body.
func (c *call) prepareBody(w http.ResponseWriter, now time.Time) (later time.Time, err error) {
	rec := c.body
	rec.answeredBy(w)
	deadline := c.handler.retry.deadline
	switch {
	case c.handler.edits:
		err = c.prepareJSON(deadline)
	case rec.small:
		err = rec.readSmall(deadline)
	default:
		return now, nil
	}
	if err == errClientSlow {
		c.handler.pool.refusals.unread.Add(1)
		rec.stopReading(now) // which is over
		return now, clientSlow()
	}
	if err != nil {
		c.handler.pool.refusals.unread.Add(1)
		if c.request.Context().Err() != nil {
			return now, outcome.ErrClientGone
		}
		return now, err
	}
	later = time.Now()
	rec.before = later.Sub(now)
	return later, nil
}
