package pool

import (
	"runtime/debug"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/apifailover/caddy-failover/internal/endpoint"
	"github.com/apifailover/caddy-failover/internal/event"
	"github.com/apifailover/caddy-failover/internal/incident"
)

// Emit emits an event of the pool. It never blocks, so it may be used on the request path,
// but not under a lock. It fills in ID and Pool, and At and Count if they are zero. The
// caller must not change Details afterwards.
func (p *Pool) Emit(e event.Event) {
	e.Pool = p.Name
	if e.At.IsZero() {
		e.At = time.Now()
	}
	e.Count = max(1, e.Count)
	p.Incidents.Take(&e, causeOf(&e))
	p.Outbox.Post(e)
}

// emitAll emits events that were collected under a lock.
func (p *Pool) emitAll(collected []event.Event) {
	for _, e := range collected {
		p.Emit(e)
	}
}

// someOutLocked reports whether an endpoint's breaker is open or recovering without an
// operator's order. It needs Pool.Mu.
func (p *Pool) someOutLocked() bool {
	for _, m := range p.awakeLocked() {
		if m.ToldOut() {
			return true
		}
	}
	return false
}

// totalsLocked returns the pool's counts for incidents. It needs Pool.Mu.
func (p *Pool) totalsLocked() incident.Totals {
	failures := p.calls.Counts().Failures
	return incident.Totals{Failed: failures.Total(), Saved: p.Saved.Load()}
}

// causeOf returns the cause in an event's details as one line.
func causeOf(e *event.Event) string {
	what, _ := e.Details["cause"].(string)
	method, _ := e.Details["method"].(string)
	path, _ := e.Details["path"].(string)
	return endpoint.Cause{What: what, Method: method, Path: path, Scope: e.Scope}.String()
}

// logEvent writes an event to the log of the pool's configuration.
func (p *Pool) logEvent(e event.Event) {
	logger := p.logger()
	if lost := p.Outbox.Log.Lost.Swap(0); lost > 0 {
		logger.Warn("the log was too slow: events are missing from it", zap.String("pool", p.Name), zap.Int64("missing", lost))
	}
	entry := logger.Check(levelOf(e.Kind), e.Kind)
	if entry == nil {
		return
	}
	fields := []zapcore.Field{zap.String("pool", e.Pool)}
	if e.Endpoint != "" {
		fields = append(fields, zap.String("endpoint", e.Endpoint))
	}
	if e.Scope != "" {
		fields = append(fields, zap.String("scope", e.Scope))
	}
	if e.To != "" {
		fields = append(fields, zap.String("to", e.To))
	}
	if e.Reason != "" {
		fields = append(fields, zap.String("reason", e.Reason))
	}
	if e.Incident != 0 {
		fields = append(fields, zap.Uint64("incident", e.Incident))
	}
	for _, name := range e.DetailNames() {
		fields = append(fields, zap.Any(name, e.Details[name]))
	}
	entry.Write(append(fields, zap.Int("count", e.Count), zap.Time("at", e.At), zap.Uint64("id", e.ID))...)
}

// Source returns the source of the pool's configuration or, if that has ended, of the newest
// configuration that runs; nil if none runs.
func (p *Pool) Source() EventSource {
	p.Mu.Lock()
	defer p.Mu.Unlock()
	if g := p.generation.Load(); g != nil && isUsable(g.Source) {
		return g.Source
	}
	for i := len(p.attached) - 1; i >= 0; i-- {
		if s := p.attached[i].Source; isUsable(s) {
			return s
		}
	}
	return nil
}

// isUsable reports whether s is not nil and usable.
func isUsable(s EventSource) bool { return s != nil && s.Usable() }

// tellCaddy passes an event to the subscribers of the running configuration. They may be slow and may
// panic.
func (p *Pool) tellCaddy(e event.Event) {
	defer func() {
		if r := recover(); r != nil {
			p.logger().Error("a subscriber panicked", zap.String("pool", p.Name), zap.String("event", e.Kind),
				zap.Any("panic", r), zap.ByteString("stack", debug.Stack()))
		}
	}()
	if lost := p.Outbox.Caddy.Lost.Swap(0); lost > 0 {
		p.logger().Warn("subscribers were too slow: events were not delivered to them",
			zap.String("pool", p.Name), zap.Int64("missing", lost))
	}
	if s := p.Source(); s != nil {
		s.Emit(e)
	}
}

// levelOf returns the log level of a kind of event.
func levelOf(kind string) zapcore.Level {
	switch kind {
	case event.AllDown:
		return zapcore.ErrorLevel
	case event.BreakerRecovering, event.BreakerClosed, event.SLAMetAgain, event.Operator, event.Scheduled, event.PoolUp, event.IncidentOver:
		return zapcore.InfoLevel
	}
	return zapcore.WarnLevel
}
