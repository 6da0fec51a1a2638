package failover

import (
	"runtime/debug"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/apifailover/caddy-failover/internal/event"
)

// logEvent writes an event to the log of the configuration the pool runs by.
func (p *pool) logEvent(e event.Event) {
	logger := p.logger()
	if lost := p.outbox.Log.Lost.Swap(0); lost > 0 {
		logger.Warn("the log was too slow: events are missing from it", zap.String("pool", p.name), zap.Int64("missing", lost))
	}
	entry := logger.Check(levelOf(e.Kind), e.Kind)
	if entry == nil {
		return
	}
	fields := []zapcore.Field{zap.String("pool", e.Pool)}
	if e.Endpoint != "" {
		fields = append(fields, zap.String("endpoint", e.Endpoint))
	}
	if e.To != "" {
		fields = append(fields, zap.String("to", e.To))
	}
	if e.Reason != "" {
		fields = append(fields, zap.String("reason", e.Reason))
	}
	for _, name := range e.DetailNames() {
		fields = append(fields, zap.Any(name, e.Details[name]))
	}
	entry.Write(append(fields, zap.Int("count", e.Count), zap.Time("at", e.At), zap.Uint64("id", e.ID))...)
}

// source is that of the configuration the pool runs by, or of the newest that
// runs, where that one has ended; nil if none does.
func (p *pool) source() eventSource {
	p.mu.Lock()
	defer p.mu.Unlock()
	if g := p.generation.Load(); g != nil && isUsable(g.source) {
		return g.source
	}
	for i := len(p.attached) - 1; i >= 0; i-- {
		if s := p.attached[i].source; isUsable(s) {
			return s
		}
	}
	return nil
}

// isUsable tells whether there is a source that is usable.
func isUsable(s eventSource) bool { return s != nil && s.usable() }

// tellCaddy hands an event to the subscribers of the configuration that runs, who may be
// slow and may panic.
func (p *pool) tellCaddy(e event.Event) {
	defer func() {
		if r := recover(); r != nil {
			p.logger().Error("a subscriber panicked", zap.String("pool", p.name), zap.String("event", e.Kind),
				zap.Any("panic", r), zap.ByteString("stack", debug.Stack()))
		}
	}()
	if lost := p.outbox.Caddy.Lost.Swap(0); lost > 0 {
		p.logger().Warn("subscribers were too slow: events were not delivered to them",
			zap.String("pool", p.name), zap.Int64("missing", lost))
	}
	if s := p.source(); s != nil {
		s.emit(e)
	}
}

// levelOf is how urgent a kind of event is in a log.
func levelOf(kind string) zapcore.Level {
	switch kind {
	case event.AllDown:
		return zapcore.ErrorLevel
	case event.BreakerRecovering, event.BreakerClosed, event.SLAMetAgain, event.Operator:
		return zapcore.InfoLevel
	}
	return zapcore.WarnLevel
}
