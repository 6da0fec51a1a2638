package call

import (
	"context"
	"net/http"
	"sync"
	"time"

	"go.opentelemetry.io/contrib/propagators/autoprop"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/apifailover/caddy-failover/internal/outcome"
)

// Each attempt of a sampled request has a span, which is a child of the request's span. Caddy's
// `tracing` makes the latter. Attempts of other requests have none: Call.traced is false.

// tracer is the name of the instrumentation.
const tracer = "github.com/apifailover/caddy-failover"

// Attributes of an attempt's span.
const (
	attrPool     = attribute.Key("failover.pool")
	attrEndpoint = attribute.Key("failover.endpoint")
	attrAttempt  = attribute.Key("failover.attempt") // its number in the call, from 1
	attrHedge    = attribute.Key("failover.hedge")   // true: the attempt is a hedge
	attrScope    = attribute.Key("failover.scope")   // absent if the call has none
	attrOutcome  = attribute.Key("failover.outcome")
	attrMovedOn  = attribute.Key("failover.moved_on") // the reason of the move to the next attempt
	attrMovedTo  = attribute.Key("failover.moved_to") // the endpoint of the next attempt
	attrStatus   = attribute.Key("http.response.status_code")
)

// spans are the open spans of a call's attempts. All methods are safe for concurrent use.
type spans struct {
	mu   sync.Mutex
	open []*attemptSpan
}

// An attemptSpan ends when the result of the attempt's round trip is dealt with and the attempt is
// settled. If the call may still move on from the attempt, the span is held open until it does, or
// until the request is over.
type attemptSpan struct {
	trace.Span
	attempt          *Attempt
	dealtWith, ready bool // ready: settled, with nothing in flight
	held             bool
	outcome          outcome.Outcome
	what             string    // what was wrong, in a few words
	ended            time.Time // when it was both dealt with and ready
}

// trace gives the call's attempts spans if the request's span is sampled.
func (c *Call) trace(ctx context.Context) {
	if span := trace.SpanFromContext(ctx); span.IsRecording() && span.SpanContext().IsSampled() {
		c.traced, c.extra().spans = true, new(spans)
	}
}

// beginSpan begins the span of an attempt of a traced call, and makes it the current one of the
// attempt's context.
func (a *Attempt) beginSpan(number int, hedge bool) {
	c := a.Call
	attributes := make([]attribute.KeyValue, 0, 5)
	attributes = append(attributes, attrPool.String(c.Handler.Name), attrEndpoint.String(a.Target.Name), attrAttempt.Int(number))
	if hedge {
		attributes = append(attributes, attrHedge.Bool(true))
	}
	if scope := c.scope(); scope != "" {
		attributes = append(attributes, attrScope.String(scope))
	}
	own := trace.SpanFromContext(a.client).TracerProvider().Tracer(tracer)
	ctx, span := own.Start(a.client, "attempt "+a.Target.Name, trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(attributes...))
	a.client = ctx
	s := c.extras.spans
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open = append(s.open, &attemptSpan{Span: span, attempt: a})
}

// propagators returns the propagators that OTEL_PROPAGATORS names, as Caddy's `tracing` does.
var propagators = sync.OnceValue(func() propagation.TextMapPropagator { return autoprop.NewTextMapPropagator() })

// propagate replaces the request's span with the attempt's in the header fields that name it. It does
// not add a field that the configuration has removed.
func (a *Attempt) propagate(h http.Header) { propagators().Inject(a.client, presentFields{h}) }

// presentFields is a header in which only existing fields can be set.
type presentFields struct{ http.Header }

func (p presentFields) Set(key, value string) {
	if p.Get(key) != "" {
		p.Header.Set(key, value)
	}
}

func (p presentFields) Keys() []string { return propagation.HeaderCarrier(p.Header).Keys() }

// update changes the attempt's span, if it has one that has not ended, and ends it if that is due.
func (s *spans) update(a *Attempt, change func(*attemptSpan)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, span := range s.open {
		if span.attempt != a {
			continue
		}
		change(span)
		if span.dealtWith && span.ready && span.ended.IsZero() {
			span.ended = time.Now()
		}
		if !span.ended.IsZero() && !span.held {
			s.open = append(s.open[:i], s.open[i+1:]...)
			span.end()
		}
		return
	}
}

// end ends the span with the attempt's outcome.
func (s *attemptSpan) end() {
	s.SetAttributes(attrOutcome.String(s.outcome.String()))
	if s.outcome.Failed() {
		s.SetStatus(codes.Error, s.what)
	}
	s.End(trace.WithTimestamp(s.ended))
}

// spanAnswered notes the status of the attempt's answer.
func (a *Attempt) spanAnswered(status int) {
	a.Call.extras.spans.update(a, func(s *attemptSpan) { s.SetAttributes(attrStatus.Int(status)) })
}

// spanSettled notes the attempt's outcome. released says that nothing of the attempt is in flight.
func (a *Attempt) spanSettled(what string, released bool) {
	o := a.known()
	a.Call.extras.spans.update(a, func(s *attemptSpan) {
		s.outcome, s.ready = o, s.ready || released
		if what != "" {
			s.what = what
		}
	})
}

// spansDealtWith notes that the result of an attempt's round trip is dealt with, or its rival's if
// the rival has won. If the call may still move on from the latest attempt, its span is held open.
func (c *Call) spansDealtWith(a *Attempt) {
	last := c.Current
	if last != a {
		a.spanDealtWith(false)
	}
	last.spanDealtWith(c.handed && c.Handler.Rematches || c.extras.wait.next)
}

// spanDealtWith notes that the result of the attempt's round trip is dealt with. held says that the
// call may still move on from it.
func (a *Attempt) spanDealtWith(held bool) {
	c := a.Call
	c.extras.spans.update(a, func(s *attemptSpan) { s.dealtWith, s.held = true, held })
	if held {
		context.AfterFunc(c.Request.Context(), func() {
			c.extras.spans.update(a, func(s *attemptSpan) { s.held = false })
		})
	}
}

// spanMovedOn notes the next attempt and the reason of the move.
func (a *Attempt) spanMovedOn(to *Attempt, reason string) {
	a.Call.extras.spans.update(a, func(s *attemptSpan) {
		s.SetAttributes(attrMovedOn.String(reason), attrMovedTo.String(to.Target.Name))
		s.held = false
	})
}
