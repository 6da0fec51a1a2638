package call

import (
	"context"
	"net/http"
	"testing"

	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// contexts returns contexts of requests without a span and with spans that are not recorded. They have as many
// values as Caddy's contexts have.
func contexts(t testing.TB) map[string]context.Context {
	deep := func(ctx context.Context) context.Context {
		for i := range 12 {
			ctx = context.WithValue(ctx, [1]int{i}, i)
		}
		return ctx
	}
	never, _ := sdk.NewTracerProvider(sdk.WithSampler(sdk.NeverSample())).Tracer("").Start(t.Context(), "request")
	remote := trace.ContextWithRemoteSpanContext(t.Context(), trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID{1}, SpanID: trace.SpanID{1}, TraceFlags: trace.FlagsSampled,
	}))
	return map[string]context.Context{"no span": deep(t.Context()), "not sampled": deep(never), "nothing that records": deep(remote)}
}

// TestNoSpanCostsNothing checks that a request that is not sampled allocates nothing for spans.
func TestNoSpanCostsNothing(t *testing.T) {
	for name, ctx := range contexts(t) {
		c := new(Call)
		if n := testing.AllocsPerRun(100, func() { c.trace(ctx) }); n != 0 || c.traced || c.extras != nil {
			t.Errorf("%s: %v allocations, traced: %v", name, n, c.traced)
		}
	}
}

// BenchmarkTrace measures the cost of tracing for a request that is not sampled.
func BenchmarkTrace(b *testing.B) {
	for name, ctx := range contexts(b) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			c := new(Call)
			for b.Loop() {
				c.trace(ctx)
			}
		})
	}
}

// TestOnlyPresentFieldsArePropagated checks that a removed Traceparent is not added again.
func TestOnlyPresentFieldsArePropagated(t *testing.T) {
	ctx, span := sdk.NewTracerProvider().Tracer("").Start(t.Context(), "attempt")
	defer span.End()
	a := &Attempt{client: ctx}
	without, with := http.Header{}, http.Header{"Traceparent": {"the request's"}}
	a.propagate(without)
	a.propagate(with)
	if len(without) != 0 || len(with) != 1 || with.Get("Traceparent")[36:52] != span.SpanContext().SpanID().String() {
		t.Errorf("%v, %v", without, with)
	}
}
