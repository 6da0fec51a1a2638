package call

import (
	"context"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/apifailover/caddy-failover/internal/endpoint"
	"github.com/apifailover/caddy-failover/internal/link"
	"github.com/apifailover/caddy-failover/internal/replay"
	"github.com/apifailover/caddy-failover/internal/target"
)

// A lifetime is the part of an attempt that the wrapped transport's goroutines use. They run on other
// cores. So it comes first in the attempt, far from the fields that the request's goroutine writes
// after the answer has arrived.
type lifetime struct {
	mu       sync.Mutex
	progress atomic.Uint32 // a progress
	ended    atomic.Uint32 // an endpoint.Ending; written under mu
	onEnd    afterEnd      // the first registered function, linked to the others
}

// afterEnd is a function to call when the attempt ends.
type afterEnd struct {
	f    func() // nil: stopped
	next *afterEnd
}

// Deadline implements context.Context. Attempts are ended by the watcher.
func (a *Attempt) Deadline() (time.Time, bool) { return a.client.Deadline() }

// Value implements context.Context. It returns the request's vars without a walk up the long chain of
// contexts, because the proxy's transport needs them for each request.
func (a *Attempt) Value(key any) any {
	if k, ok := key.(caddy.CtxKey); ok && k == caddyhttp.VarsCtxKey && a.Call.vars != nil {
		return a.Call.vars
	}
	if (key == link.DialerKey{}) {
		return a
	}
	d := a.dial()
	if d != nil && key == target.DialInfoKey {
		return *d
	}
	v := a.client.Value(key)
	if trace, ok := v.(*httptrace.ClientTrace); ok && d != nil {
		own := *trace // the request's trace reports the first attempt's connection
		own.GotConn = a.gotConn
		own.Got1xxResponse = nil
		return &own
	}
	return v
}

// Done implements context.Context.
func (a *Attempt) Done() <-chan struct{} { return a.done }

// Err implements context.Context.
func (a *Attempt) Err() error {
	switch a.endedWhy() {
	case endpoint.NotEnded:
		return nil
	case endpoint.EndedByTimeout, endpoint.EndedByDeadline, endpoint.EndedByIdle:
		return context.DeadlineExceeded
	}
	return context.Canceled
}

// AfterFunc lets package context derive a context from this one without a goroutine. See
// context.AfterFunc.
func (a *Attempt) AfterFunc(f func()) (stop func() bool) {
	a.mu.Lock()
	if a.endedWhy() != endpoint.NotEnded {
		a.mu.Unlock()
		go f()
		return func() bool { return false }
	}
	e := &a.onEnd
	if e.f != nil || e.next != nil {
		e = &afterEnd{next: a.onEnd.next}
		a.onEnd.next = e
	}
	e.f = f
	a.mu.Unlock()
	return func() (stopped bool) {
		a.mu.Lock()
		if a.endedWhy() == endpoint.NotEnded && e.f != nil {
			stopped, e.f = true, nil
		}
		a.mu.Unlock()
		return stopped
	}
}

// end ends the attempt's context. Only the first reason counts.
func (a *Attempt) end(why endpoint.Ending) {
	a.mu.Lock()
	a.endAndUnlock(why)
}

func (a *Attempt) endAndUnlock(why endpoint.Ending) {
	if a.endedWhy() != endpoint.NotEnded {
		a.mu.Unlock()
		return
	}
	a.ended.Store(uint32(why))
	close(a.done)
	then := a.onEnd
	a.onEnd = afterEnd{}
	a.mu.Unlock()
	// Package context registered these to cancel derived contexts. They are short and take
	// none of our locks, so they need no goroutine each.
	for e := &then; e != nil; e = e.next {
		if e.f != nil {
			e.f()
		}
	}
	if a.sent == nil || !a.is(started) {
		return
	}
	if why == endpoint.EndedNormally {
		a.sent.Answered(a.Call.restOfBody())
	} else {
		a.sent.Cut(replay.ErrReplaced)
	}
}

// endedWhy returns why the context ended, or NotEnded.
func (a *Attempt) endedWhy() endpoint.Ending { return endpoint.Ending(a.ended.Load()) }

var _ context.Context = (*Attempt)(nil)
