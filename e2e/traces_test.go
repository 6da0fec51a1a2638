package e2e

import (
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	otlp "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// A tracer is a server that receives spans by OTLP over HTTP.
type tracer struct {
	mu    sync.Mutex
	spans []*otlp.Span
}

// newTracer starts a tracer. Caddy's `tracing` sends its spans there from the next configuration on.
func newTracer(t *testing.T) *tracer {
	r := new(tracer)
	server := httptest.NewServer(r)
	t.Cleanup(server.Close)
	t.Setenv("OTEL_TRACES_EXPORTER", "otlp")
	t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", server.URL)
	return r
}

func (r *tracer) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	in := new(collector.ExportTraceServiceRequest)
	if err == nil {
		err = proto.Unmarshal(body, in)
	}
	if err != nil || req.URL.Path != "/v1/traces" {
		http.Error(w, fmt.Sprint(req.URL.Path, err), http.StatusBadRequest)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, resource := range in.ResourceSpans {
		for _, scope := range resource.ScopeSpans {
			r.spans = append(r.spans, scope.Spans...)
		}
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
}

// received ends the configuration, which makes Caddy send its spans, and returns the spans of requests and of attempts.
func (r *tracer) received(p *proxy) (requests, attempts []*otlp.Span) {
	p.t.Helper()
	p.quiet() // the span of an attempt that was left ends with the attempt
	p.reload("respond 404")
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.spans {
		if s.Name == "request" {
			requests = append(requests, s)
		} else {
			attempts = append(attempts, s)
		}
	}
	return requests, attempts
}

// attributes returns a span's attributes as text.
func attributes(s *otlp.Span) map[string]string {
	all := map[string]string{}
	for _, a := range s.Attributes {
		switch v := a.Value; {
		case v.GetStringValue() != "":
			all[a.Key] = v.GetStringValue()
		case v.GetBoolValue():
			all[a.Key] = "true"
		default:
			all[a.Key] = fmt.Sprint(v.GetIntValue())
		}
	}
	return all
}

// wantSpan checks a span's parent and attributes.
func wantSpan(t *testing.T, s, parent *otlp.Span, want map[string]string) {
	t.Helper()
	if string(s.ParentSpanId) != string(parent.SpanId) || string(s.TraceId) != string(parent.TraceId) || s.Kind != otlp.Span_SPAN_KIND_CLIENT {
		t.Errorf("span %q is no child of the request's: %v", s.Name, s)
	}
	got := attributes(s)
	for key, value := range want {
		if got[key] != value {
			t.Errorf("span %q: %s is %q, want %q", s.Name, key, got[key], value)
		}
	}
	if _, moved := want["failover.moved_on"]; !moved && got["failover.moved_on"] != "" {
		t.Errorf("span %q: unexpected failover.moved_on %q", s.Name, got["failover.moved_on"])
	}
	if s.EndTimeUnixNano < s.StartTimeUnixNano || s.StartTimeUnixNano < parent.StartTimeUnixNano {
		t.Errorf("span %q is from %d to %d; the request's begins at %d", s.Name, s.StartTimeUnixNano, s.EndTimeUnixNano, parent.StartTimeUnixNano)
	}
}

// traceparent returns the Traceparent that names a span to the endpoint.
func traceparent(s *otlp.Span) string {
	return fmt.Sprintf("00-%s-%s-01", hex.EncodeToString(s.TraceId), hex.EncodeToString(s.SpanId))
}

const tracing = "tracing {\n\tspan request\n}\n"

// TestEachAttemptHasASpan checks that each attempt's span is a child of the request's, and that the endpoint gets its
// Traceparent.
func TestEachAttemptHasASpan(t *testing.T) {
	r := newTracer(t)
	one, two := newAPI(t, "one"), newAPI(t, "two")
	one.answer(http.StatusServiceUnavailable)
	p := startCaddy(t, tracing+edited("api", retrying, []*api{one, two}, "priority 1", "priority 2"))
	p.call("POST", "/", "a body").want(t, "an answer", 200, "two"+digest("a body"))
	requests, attempts := r.received(p)
	if len(requests) != 1 || len(attempts) != 2 {
		t.Fatalf("%d requests, %d attempts", len(requests), len(attempts))
	}
	wantSpan(t, attempts[0], requests[0], map[string]string{
		"failover.pool": "api", "failover.endpoint": "one", "failover.attempt": "1", "failover.outcome": "status",
		"failover.moved_on": "status", "failover.moved_to": "two", "http.response.status_code": "503",
	})
	wantSpan(t, attempts[1], requests[0], map[string]string{
		"failover.pool": "api", "failover.endpoint": "two", "failover.attempt": "2", "failover.outcome": "success", "http.response.status_code": "200",
	})
	if status := attempts[0].Status; status.GetCode() != otlp.Status_STATUS_CODE_ERROR || status.GetMessage() != "503" {
		t.Errorf("the failure's status is %v", status)
	}
	for i, a := range []*api{one, two} {
		if got, want := a.last(t).Header.Get("Traceparent"), traceparent(attempts[i]); got != want {
			t.Errorf("endpoint %s got %q, want %q", a.name, got, want)
		}
	}
}

// TestRequestsThatAreNotSampledHaveNoSpans checks that they reach the endpoint with the client's trace ID.
func TestRequestsThatAreNotSampledHaveNoSpans(t *testing.T) {
	r := newTracer(t)
	one := newAPI(t, "one")
	p := startCaddy(t, tracing+site("", one))
	const trace = "4bf92f3577b34da6a3ce929d0e0e4736"
	p.call("GET", "/", "", "Traceparent", "00-"+trace+"-00f067aa0ba902b7-00")
	if got := one.last(t).Header.Get("Traceparent"); len(got) != 55 || got[3:35] != trace || got[53:] != "00" {
		t.Errorf("the endpoint got %q", got)
	}
	if requests, attempts := r.received(p); len(requests)+len(attempts) != 0 {
		t.Errorf("%d requests, %d attempts", len(requests), len(attempts))
	}
}

// TestTracesOfAClientGoOn checks that the endpoint gets the client's trace ID, and no Traceparent if the configuration
// removes it.
func TestTracesOfAClientGoOn(t *testing.T) {
	r := newTracer(t)
	one := newAPI(t, "one")
	const trace = "4bf92f3577b34da6a3ce929d0e0e4736"
	p := startCaddy(t, tracing+at("/bare", site("header_up -Traceparent", one))+"\n"+site("", one))
	p.call("GET", "/", "", "Traceparent", "00-"+trace+"-00f067aa0ba902b7-01")
	if got := one.last(t).Header.Get("Traceparent"); len(got) != 55 || got[3:35] != trace || got[53:] != "01" {
		t.Errorf("the endpoint got %q", got)
	}
	p.call("GET", "/bare", "")
	if got := one.last(t).Header.Get("Traceparent"); got != "" {
		t.Errorf("the endpoint got %q, which the configuration removes", got)
	}
	if requests, attempts := r.received(p); len(requests) != 2 || len(attempts) != 2 {
		t.Errorf("%d requests, %d attempts", len(requests), len(attempts))
	}
}

// TestSpansOfAttemptsThatMoveOn checks the spans of a call that moves on, for each reason, and of a hedge.
func TestSpansOfAttemptsThatMoveOn(t *testing.T) {
	hangs := func(one *api) { t.Cleanup(one.hang()) }
	for name, test := range map[string]struct {
		options string
		first   func(one *api)
		want    []map[string]string
	}{
		"a refused connection": {retrying, (*api).down, []map[string]string{
			{"failover.outcome": "dial", "failover.moved_on": "dial", "http.response.status_code": ""},
			{"failover.outcome": "success"},
		}},
		"a timeout": {"timeout 300ms" + retrying, hangs, []map[string]string{
			{"failover.outcome": "timeout", "failover.moved_on": "timeout", "http.response.status_code": ""},
			{"failover.outcome": "success"},
		}},
		"next_on": {"next_on 404" + retrying, func(one *api) { one.answer(http.StatusNotFound) }, []map[string]string{
			{"failover.outcome": "success", "failover.moved_on": "next_on", "http.response.status_code": "404"},
			{"failover.outcome": "success"},
		}},
		"lb_retry_match": {"lb_retry_match {\n\t\texpression `{rp.status_code} == 404`\n\t}", func(one *api) { one.answer(http.StatusNotFound) }, []map[string]string{
			{"failover.outcome": "success", "failover.moved_on": "lb_retry_match", "http.response.status_code": "404"},
			{"failover.outcome": "success"},
		}},
		"a scope": {"scope {path}" + retrying, (*api).down, []map[string]string{
			{"failover.outcome": "dial", "failover.moved_on": "dial", "failover.scope": "/"},
			{"failover.outcome": "success", "failover.scope": "/"},
		}},
		"a hedge": {"retry {\n\t\tmethods any\n\t\thedge 100ms max 1\n\t}", hangs, []map[string]string{
			{"failover.outcome": "cancelled", "failover.hedge": ""},
			{"failover.outcome": "success", "failover.hedge": "true", "failover.attempt": "2"},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newTracer(t)
			one, two := newAPI(t, "one"), newAPI(t, "two")
			test.first(one)
			p := startCaddy(t, tracing+edited("api", test.options, []*api{one, two}, "priority 1", "priority 2"))
			p.get().want(t, "an answer", 200, "two")
			requests, attempts := r.received(p)
			if len(requests) != 1 || len(attempts) != len(test.want) {
				t.Fatalf("%d requests, %d attempts: %v", len(requests), len(attempts), attempts)
			}
			for _, s := range attempts {
				i := 0
				if attributes(s)["failover.endpoint"] == "two" {
					i = 1
				}
				wantSpan(t, s, requests[0], test.want[i])
			}
		})
	}
}

// TestSpansOfWaitsAndBrokenBodies checks that attempts around a wait, and one whose body breaks off, have spans that
// end.
func TestSpansOfWaitsAndBrokenBodies(t *testing.T) {
	r := newTracer(t)
	one := newAPI(t, "one")
	p := startCaddy(t, tracing+site("all_down wait 30s"+quick, one))
	address := one.address
	one.down()
	answers := p.waiting("GET", "/")
	p.awaitWaiting(1)
	one.up(t, address)
	if got := receive(t, "an answer", answers); got != "200 one" {
		t.Errorf("got %q", got)
	}
	one.behave(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "100")
		fmt.Fprint(w, "some")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	resp, err := p.do("GET", "/", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, resp.Body); err == nil {
		t.Error("the body did not break off")
	}
	resp.Body.Close()
	requests, attempts := r.received(p)
	if len(requests) != 2 || len(attempts) < 3 {
		t.Fatalf("%d requests, %d attempts", len(requests), len(attempts))
	}
	last := len(attempts) - 1
	for i, s := range attempts[:last] {
		want := map[string]string{"failover.outcome": "dial", "failover.moved_on": "dial", "failover.attempt": fmt.Sprint(i + 1)}
		if i == last-1 {
			want = map[string]string{"failover.outcome": "success", "failover.attempt": fmt.Sprint(i + 1)}
		}
		wantSpan(t, s, requests[0], want)
	}
	wantSpan(t, attempts[last], requests[1], map[string]string{"failover.outcome": "truncated"})
	if attempts[last].Status.GetCode() != otlp.Status_STATUS_CODE_ERROR {
		t.Errorf("the status is %v", attempts[last].Status)
	}
}
