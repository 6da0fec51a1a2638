package failover

import (
	"context"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// A lifetime is what the wrapped transport's own goroutines look at in an attempt. It
// is the first 32 bytes of it, what follows them is not looked at when the answer has
// come, and the rest is not in their cache lines: they run on other cores.
type lifetime struct {
	mu       sync.Mutex
	progress atomic.Uint32 // how far it has come, as bits
	ended    atomic.Uint32 // an ending; written under mu
	onEnd    afterEnd      // the first to register, the others linked to it
}

// afterEnd is what is to happen when an attempt ends.
type afterEnd struct {
	f    func() // nil: nothing any longer
	next *afterEnd
}

// ending is why an attempt's context ended.
type ending uint32

const (
	notEnded ending = iota
	endedNormally
	endedByTimeout
	endedByDeadline
	endedByClient
	endedByIdle
	endedByRescue
	endedByHedge
	neverBegan
	mayBeLost   // no end: the watcher's word for an upload whose connection is to be looked at
	hedgeStarts // no end: the watcher's word for a hedge that is due
)

// makeDone has the attempt ready to be waited for.
func (a *attempt) makeDone() {
	a.mu.Lock()
	a.done = make(chan struct{})
	if a.endedWhy() != notEnded {
		close(a.done)
	}
	a.mu.Unlock()
}

// Deadline implements context.Context. Attempts are ended by the watcher.
func (a *attempt) Deadline() (time.Time, bool) { return a.client.Deadline() }

// Value implements context.Context. The proxy's transport asks for the request's vars
// each time, which are far up the chain of contexts.
func (a *attempt) Value(key any) any {
	if k, ok := key.(caddy.CtxKey); ok && k == caddyhttp.VarsCtxKey && a.call.vars != nil {
		return a.call.vars
	}
	if d := a.dial(); d != nil && key == dialInfoKey {
		return *d
	}
	v := a.client.Value(key)
	if trace, ok := v.(*httptrace.ClientTrace); ok && a.sent != nil && a.sent.whole() == nil {
		return a.sent.traced(trace)
	}
	return v
}

// Done implements context.Context.
func (a *attempt) Done() <-chan struct{} { return a.done }

// Err implements context.Context.
func (a *attempt) Err() error {
	switch a.endedWhy() {
	case notEnded:
		return nil
	case endedByTimeout, endedByDeadline, endedByIdle:
		return context.DeadlineExceeded
	}
	return context.Canceled
}

// AfterFunc lets package context hang a derived context onto this one without
// a goroutine. See the documentation of context.AfterFunc.
func (a *attempt) AfterFunc(f func()) (stop func() bool) {
	a.mu.Lock()
	if a.endedWhy() != notEnded {
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
		if a.endedWhy() == notEnded && e.f != nil {
			stopped, e.f = true, nil
		}
		a.mu.Unlock()
		return stopped
	}
}

// end ends the attempt's context. The first reason stays.
func (a *attempt) end(why ending) {
	a.mu.Lock()
	a.endAndUnlock(why)
}

func (a *attempt) endAndUnlock(why ending) {
	if a.endedWhy() != notEnded {
		a.mu.Unlock()
		return
	}
	a.ended.Store(uint32(why))
	if a.done != nil {
		close(a.done)
	}
	then := a.onEnd
	a.onEnd = afterEnd{}
	a.mu.Unlock()
	// These come from package context, which cancels a derived context: short,
	// without a lock of ours, and not worth a goroutine each.
	for e := &then; e != nil; e = e.next {
		if e.f != nil {
			e.f()
		}
	}
	if why != endedNormally && a.is(started) && a.sent != nil {
		a.sent.cut(errReplaced)
	}
}

// endedWhy is why the context ended.
func (a *attempt) endedWhy() ending { return ending(a.ended.Load()) }

var _ context.Context = (*attempt)(nil)
