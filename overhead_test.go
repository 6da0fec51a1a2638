package failover

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

func init() { caddy.RegisterModule(canned{}) }

// canned is a transport that responds at once. It uses the request's context as net/http's transport
// does.
type canned struct{}

func (canned) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.reverse_proxy.transport.canned", New: func() caddy.Module { return new(canned) }}
}

func (canned) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(r.Context())
	stop := context.AfterFunc(ctx, func() {})
	select {
	case <-ctx.Done():
		cancel(nil)
		return nil, ctx.Err()
	default:
	}
	stop()
	return &http.Response{
		StatusCode: http.StatusOK, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Content-Type": {"text/plain"}, "Content-Length": {"5"}},
		Body:   cancelling{io.NopCloser(strings.NewReader("hello")), cancel}, ContentLength: 5, Request: r,
	}, nil
}

type cancelling struct {
	io.ReadCloser
	cancel context.CancelCauseFunc
}

func (c cancelling) Close() error { c.cancel(nil); return c.ReadCloser.Close() }

// BenchmarkOverhead measures a request through reverse_proxy with a transport that costs nothing. The
// policy costs the difference to round_robin.
func BenchmarkOverhead(b *testing.B) {
	upstreams := `[{"dial": "127.0.0.1:1"}, {"dial": "127.0.0.1:2"}, {"dial": "127.0.0.1:3"}]`
	for _, bench := range []struct{ name, policy string }{
		{"round_robin", `{"policy": "round_robin"}`},
		{"failover", `{"policy": "failover", "name": "bench", "endpoints": [
			{"upstream": "127.0.0.1:1", "priority": 1}, {"upstream": "127.0.0.1:2", "priority": 1}, {"upstream": "127.0.0.1:3", "priority": 1}]}`},
		{"base_url", `{"policy": "failover", "name": "bench", "endpoints": [
			{"upstream": "127.0.0.1:1", "priority": 1, "url": "http://127.0.0.1:1/v1"},
			{"upstream": "127.0.0.1:2", "priority": 1, "url": "http://127.0.0.1:2/v1"},
			{"upstream": "127.0.0.1:3", "priority": 1, "url": "http://127.0.0.1:3/v1"}]}`},
		{"credentials", `{"policy": "failover", "name": "bench", "endpoints": [
			{"upstream": "127.0.0.1:1", "priority": 1, "url": "https://one.test/v1", "headers": {"set": {"Authorization": ["Bearer one"]}}}]}`},
	} {
		b.Run(bench.name, func(b *testing.B) {
			ups := upstreams
			if bench.name == "credentials" {
				ups = `[{"dial": "127.0.0.1:1"}]`
			}
			ctx, err := caddy.ProvisionContext(&caddy.Config{})
			if err != nil {
				b.Fatal(err)
			}
			raw := fmt.Sprintf(`{"transport": {"protocol": "canned"}, "upstreams": %s, "load_balancing": {"selection_policy": %s}}`, ups, bench.policy)
			module, err := ctx.LoadModuleByID("http.handlers.reverse_proxy", json.RawMessage(raw))
			if err != nil {
				b.Fatal(err)
			}
			handler := module.(*reverseproxy.Handler)
			b.ReportAllocs()
			for b.Loop() {
				r := httptest.NewRequest(http.MethodGet, "http://api.test/models", nil)
				w := httptest.NewRecorder()
				repl := caddy.NewReplacer()
				r = caddyhttp.PrepareRequest(r, repl, w, new(caddyhttp.Server))
				if err := handler.ServeHTTP(w, r, caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error { return nil })); err != nil {
					b.Fatal(err)
				}
				if w.Code != http.StatusOK {
					b.Fatal(w.Code)
				}
			}
		})
	}
}
