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

// Each attempt of a request that is sampled has a span, a child of the request's, which Caddy's
// `tracing` makes. Other requests have none: Call.traced is false for them.

// tracer is the name of the instrumentation.
const tracer = "github.com/apifailover/caddy-failover"

// Attributes of an attempt's span.
const (
	attrPool     = attribute.Key("failover.pool")
	attrEndpoint = attribute.Key("failover.endpoint")
	attrAttempt  = attribute.Key("failover.attempt") // its number in the call, from 1
	attrHedge    = attribute.Key("failover.hedge")   // true: it began while another was under way
	attrScope    = attribute.Key("failover.scope")   // absent if the call has none
	attrOutcome  = attribute.Key("failover.outcome")
	attrMovedOn  = attribute.Key("failover.moved_on") // the reason of the move to the next attempt
	attrMovedTo  = attribute.Key("failover.moved_to") // the endpoint of the next attempt
	attrStatus   = attribute.Key("http.response.status_code")
)

// spans are those of a call's attempts that have not ended. All methods are safe for concurrent
// use.
type spans struct {
	mu   sync.Mutex
	open []*attemptSpan
}

// An attemptSpan ends when the attempt's round trip is dealt with and the attempt is settled. One
// that may still move the call on is held until then, or until the request is over.
type attemptSpan struct {
	trace.Span
	attempt          *Attempt
	dealtWith, ready bool // ready: settled, with nothing in flight
	held             bool
	outcome          outcome.Outcome
	what             string    // what was wrong in a few words
	ended            time.Time // when it was both dealt with and ready
}

// trace makes the call's attempts have spans if the request's span is sampled.
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

// propagators are those that Caddy's `tracing` has, by OTEL_PROPAGATORS.
var propagators = sync.OnceValue(func() propagation.TextMapPropagator { return autoprop.NewTextMapPropagator() })

// propagate names the attempt's span in the fields that name the request's span. A field that the
// configuration removed stays away.
func (a *Attempt) propagate(h http.Header) { propagators().Inject(a.client, presentFields{h}) }

// presentFields sets only fields that are there.
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

// end ends the span with what the attempt came to.
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

// spanSettled notes what the attempt came to. released says that nothing of it is in flight.
func (a *Attempt) spanSettled(what string, released bool) {
	o := a.known()
	a.Call.extras.spans.update(a, func(s *attemptSpan) {
		s.outcome, s.ready = o, s.ready || released
		if what != "" {
			s.what = what
		}
	})
}

// spansDealtWith notes that the round trip of an attempt is dealt with, and that of its rival if
// that has won. If the call may move on from it later, the span is held.
func (c *Call) spansDealtWith(a *Attempt) {
	last := c.Current
	if last != a {
		a.spanDealtWith(false)
	}
	last.spanDealtWith(c.handed && c.Handler.Rematches || c.extras.wait.next)
}

// spanDealtWith notes that the attempt's round trip is dealt with.
func (a *Attempt) spanDealtWith(held bool) {
	c := a.Call
	c.extras.spans.update(a, func(s *attemptSpan) { s.dealtWith, s.held = true, held })
	if held {
		context.AfterFunc(c.Request.Context(), func() {
			c.extras.spans.update(a, func(s *attemptSpan) { s.held = false })
		})
	}
}

// spanMovedOn notes what moved the call on to its next attempt.
func (a *Attempt) spanMovedOn(to *Attempt, reason string) {
	a.Call.extras.spans.update(a, func(s *attemptSpan) {
		s.SetAttributes(attrMovedOn.String(reason), attrMovedTo.String(to.Target.Name))
		s.held = false
	})
}
