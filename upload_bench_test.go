package failover

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

func init() { caddy.RegisterModule(swallowing{}) }

// swallowing is a transport that reads bodies on a goroutine of its own, as net/http does, and then
// responds at once.
type swallowing struct{ canned }

func (swallowing) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.reverse_proxy.transport.swallowing", New: func() caddy.Module { return new(swallowing) }}
}

func (s swallowing) RoundTrip(r *http.Request) (*http.Response, error) {
	done := make(chan error)
	go func() {
		_, err := io.Copy(io.Discard, struct{ io.Reader }{r.Body})
		r.Body.Close()
		done <- err
	}()
	if err := <-done; err != nil {
		return nil, err
	}
	return s.canned.RoundTrip(r)
}

// BenchmarkOverheadOfBodies measures the same as BenchmarkOverhead for a PUT with a body.
func BenchmarkOverheadOfBodies(b *testing.B) {
	for _, size := range []int{2 << 10, 16 << 10, 64 << 10, 512 << 10} {
		benchBodies(b, fmt.Sprint(size), size, `{}`)
	}
	benchBodies(b, "2048 with a deadline", 2<<10, `{"deadline": "60s"}`)
}

func benchBodies(b *testing.B, name string, size int, retry string) {
	b.Run(name, func(b *testing.B) {
		ctx, err := caddy.ProvisionContext(&caddy.Config{})
		if err != nil {
			b.Fatal(err)
		}
		module, err := ctx.LoadModuleByID("http.handlers.reverse_proxy", json.RawMessage(`{"transport": {"protocol": "swallowing"},
				"upstreams": [{"dial": "127.0.0.1:1"}, {"dial": "127.0.0.1:2"}],
				"load_balancing": {"selection_policy": {"policy": "failover", "name": "bodies", "retry": `+retry+`}}}`))
		if err != nil {
			b.Fatal(err)
		}
		handler := module.(*reverseproxy.Handler)
		body := make([]byte, size)
		b.ReportAllocs()
		for b.Loop() {
			r := httptest.NewRequest(http.MethodPut, "http://api.test/models", bytes.NewReader(body))
			w := httptest.NewRecorder()
			r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, new(caddyhttp.Server))
			if err := handler.ServeHTTP(w, r, caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error { return nil })); err != nil {
				b.Fatal(err)
			}
			if w.Code != http.StatusOK {
				b.Fatal(w.Code)
			}
		}
	})
}
