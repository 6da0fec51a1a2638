package failover

import (
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
