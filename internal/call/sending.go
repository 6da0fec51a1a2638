package call

import (
	"sync/atomic"
	"time"
)

// The timeout of an upload does not count the time in which the attempt waits for the client, nor
// the time in which the endpoint still takes the request.

// sending is the progress of a request with a body, as the watcher sees it. Only the watcher uses
// it, except for taken.
type sending struct {
	at     *atomic.Int64 // bytes of the body that the transport has read; nil: ask the attempt's reader
	offset int64         // bytes of the body read, at the last look
	took   uint64        // the connection's Took, at the last look
	queued int           // the connection's Queued, at the last look
	looked time.Duration // what had returned at the last look
	taken  atomic.Int64  // what had returned at the last look before the endpoint took more, in nanoseconds
}

// had returns how long the endpoint has had the attempt: the time since the attempt began, without
// waits for the client.
func (a *Attempt) had(now time.Time) time.Duration {
	elapsed := now.Sub(a.Began)
	if a.sent != nil {
		elapsed -= a.sent.WaitedBy(now)
	}
	return max(0, elapsed)
}

// HadFor implements endpoint.Uploader.
func (a *Attempt) HadFor(now time.Time) time.Duration { return a.had(now) }

// taking returns the part of had in which the endpoint took the request.
func (a *Attempt) taking() time.Duration {
	if s := a.sending.Load(); s != nil {
		return time.Duration(s.taken.Load())
	}
	return 0
}

// watchSending notes whether the endpoint has taken more of the request since the last look.
// Only the watcher calls it.
func (a *Attempt) watchSending(now time.Time) {
	body := a.Call.body
	if body == nil || !a.is(started) || a.first.Load() != 0 {
		return
	}
	s := a.sending.Load()
	if s == nil {
		if whole := body.Whole(); whole != nil && len(whole) <= smallBody {
			return // it is sent in one write
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
