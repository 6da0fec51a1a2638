package failover

import (
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// smallBody is how large a body is at most that is read before the first attempt. Up
// to about that size, that of Caddy's write buffer, net/http sends head and body in
// one write if the body is in memory; else the head goes first. And a client that
// is slow with it keeps no endpoint waiting.
const smallBody = 4 << 10

// small tells whether the body of a request is to be read before the first attempt:
// not if the client wants it to be passed on as it comes, waits for a word of the
// endpoint, or has trailers to send.
func (p *Policy) small(r *http.Request) bool {
	return r.ContentLength > 0 && r.ContentLength <= min(smallBody, p.retry.buffer) && !p.edits &&
		len(r.Trailer) == 0 && r.Header["Expect"] == nil && !caddyhttp.IsIncremental(r.Header)
}

// readSmall reads a small body.
func (rec *recording) readSmall() error {
	body := make([]byte, rec.expect)
	if _, err := io.ReadFull(rec.source, body); err != nil {
		return err
	}
	rec.mu.Lock()
	rec.memory, rec.total, rec.err = body, rec.expect, io.EOF
	rec.mu.Unlock()
	return nil
}

// readAhead reads source to its end, or a byte further than the limit, before any
// attempt does. What it returns is valid until the recording is finished.
func (rec *recording) readAhead() ([]byte, error) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	rec.data = bodyBuffers.Get().(*[]byte)
	data := slices.Grow((*rec.data)[:0], int(max(rec.expect, 4095))+1)
	for rec.err == nil && int64(len(data)) <= rec.limit {
		if len(data) == cap(data) {
			data = slices.Grow(data, len(data))
		}
		n, err := rec.source.Read(data[len(data):min(int64(cap(data)), rec.limit+1)])
		data = data[:len(data)+n]
		rec.err = err
	}
	*rec.data, rec.total = data, int64(len(data))
	if rec.err == nil || rec.err == io.EOF {
		return data, nil
	}
	return nil, rec.err
}

// prepareBody reads the body of a call before its first attempt, where it is small or
// some endpoints have it edited, and returns the time: the client's own is over then.
// The error is that of the body.
func (c *call) prepareBody(now time.Time) (later time.Time, err error) {
	switch {
	case c.policy.edits:
		err = c.prepareJSON()
	case c.body.small:
		err = c.body.readSmall()
	default:
		return now, nil
	}
	if err != nil {
		c.policy.pool.refusals.unread.Add(1)
		if c.request.Context().Err() != nil {
			return now, errClientGone
		}
		return now, err
	}
	return time.Now(), nil
}
