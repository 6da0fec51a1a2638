package call

import (
	"sync/atomic"
	"time"
)

// An upload has two clocks. What the client sends too slowly counts for nobody; and as
// long as the endpoint goes on taking the request, it is at work: it is waited for since
// it took the last of it.

// sending is how an endpoint takes a request that has a body, as the watcher sees it.
type sending struct {
	at     *atomic.Int64 // how much of the body the transport has read; nil: the attempt's reader knows
	offset int64         // of the body, at the last look
	took   uint64        // by the connection, at the last look
	queued int           // bytes there
	looked time.Duration // when the last look was, in terms of had
	taken  atomic.Int64  // when the endpoint took the latest part, in terms of had, at least; nanoseconds
}

// had is how long the endpoint has had the attempt: the time since it began, less what was
// spent waiting for the client.
func (a *Attempt) had(now time.Time) time.Duration {
	elapsed := now.Sub(a.Began)
	if a.sent != nil {
		elapsed -= a.sent.WaitedBy(now)
	}
	return max(0, elapsed)
}

// HadFor implements endpoint.Uploader.
func (a *Attempt) HadFor(now time.Time) time.Duration { return a.had(now) }

// taking is the part of had that the endpoint spent taking the request.
func (a *Attempt) taking() time.Duration {
	if s := a.sending.Load(); s != nil {
		return time.Duration(s.taken.Load())
	}
	return 0
}

// watchSending looks whether the endpoint has taken more of the request since the last look.
// It costs the request nothing: only the watcher, whose own it is, looks.
func (a *Attempt) watchSending(now time.Time) {
	body := a.Call.body
	if body == nil || !a.is(started) || a.first.Load() != 0 {
		return
	}
	s := a.sending.Load()
	if s == nil {
		if whole := body.Whole(); whole != nil && len(whole) <= smallBody {
			return // it was taken in one piece
		}
		s = new(sending)
		a.sending.Store(s)
	}
	more := false
	offset := s.offset
	if s.at != nil {
		offset = s.at.Load()
	} else if a.sent != nil {
		offset = a.sent.Offset()
	}
	if offset != s.offset {
		s.offset, more = offset, true
	}
	if c := a.conn.Load(); c != nil && !c.IsHTTP2() {
		took, queued := c.Took(), c.Queued()
		more = more || took != s.took || queued < s.queued
		s.took, s.queued = took, queued
	}
	if more {
		s.taken.Store(int64(s.looked))
	}
	s.looked = a.had(now)
}
