package call

import (
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/apifailover/caddy-failover/internal/outcome"
	"github.com/apifailover/caddy-failover/internal/replay"
)

// record returns a recording of a request's body; nil if it has none.
func (h *Handler) record(r *http.Request) *replay.Recording {
	if r.Body == nil || r.Body == http.NoBody {
		return nil
	}
	return replay.NewRecording(r, h.recordingOptions(r))
}

// recordingOptions returns how to record the body of a request.
func (h *Handler) recordingOptions(r *http.Request) replay.Options {
	o := replay.Options{Limit: h.Retry.Buffer, Small: h.small(r)}
	if !h.Edits && !h.Reads && !h.Wait.queues() &&
		(h.Retry.Attempts < 2 || !h.Rematches && !h.HasQuotas && h.Answers == nil && !h.Retry.Repeatable(r) && !isGRPC(r)) {
		// Such a request is sent again only if nothing of it was sent.
		o.Limit = -1
	}
	o.Origin = originOf(r.Body)
	if h.Strips {
		o.Strip = h.Screen.Fields
	}
	if h.Pool != nil {
		o.NotKept = &h.Pool.NotKept
	}
	return o
}

// notKept counts a body that was not kept for lack of memory.
func (h *Handler) notKept() {
	if h.Pool != nil {
		h.Pool.NotKept.Add(1)
	}
}

// smallBody is the largest body, in bytes, that is read before the first attempt. It has the size
// of Caddy's write buffer: net/http sends head and body in one write if both fit and the body is
// in memory. Besides, a slow client then keeps no endpoint waiting.
const smallBody = 4 << 10

// clientSlow returns replay.ErrClientSlow with the status 408.
func clientSlow() error { return caddyhttp.Error(http.StatusRequestTimeout, replay.ErrClientSlow) }

// small reports whether to read a request's body before the first attempt. It does not if the body
// is large or is prepared in another way, or if the client wants it passed on as it arrives, expects
// 100 Continue, or sends trailers.
func (h *Handler) small(r *http.Request) bool {
	return r.ContentLength > 0 && r.ContentLength <= min(smallBody, h.Retry.Buffer) && !h.Edits &&
		len(r.Trailer) == 0 && r.Header["Expect"] == nil && !caddyhttp.IsIncremental(r.Header)
}

// prepareBody reads the body of a call before its first attempt if it is small, is edited for
// some endpoint, or may have the call's key. It returns the time afterwards. The error says that
// reading the body failed.
func (c *Call) prepareBody(w http.ResponseWriter, now time.Time) (later time.Time, err error) {
	rec := c.body
	rec.AnsweredBy(w)
	deadline := c.Handler.Retry.Deadline
	switch {
	case c.Handler.Edits:
		err = c.prepareJSON(deadline)
	case c.Handler.Reads && c.Request.ContentLength <= c.Handler.Retry.Buffer && !rec.Small && !caddyhttp.IsIncremental(c.Request.Header):
		_, _, err = rec.ReadAhead(deadline)
	case rec.Small:
		err = rec.ReadSmall(deadline)
	default:
		return now, nil
	}
	if err == replay.ErrClientSlow {
		c.Handler.Pool.Refusals.Gone.Add(1)
		rec.StopReading(now) // at once
		return now, clientSlow()
	}
	if err != nil {
		c.Handler.Pool.Refusals.Gone.Add(1)
		if c.Request.Context().Err() != nil {
			return now, outcome.ErrClientGone
		}
		return now, err
	}
	later = time.Now()
	rec.Before = later.Sub(now)
	return later, nil
}
