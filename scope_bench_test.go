package failover

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

// BenchmarkScope measures a request with a JSON body of 2 KiB to an endpoint at a socket, alternately
// with and without a scope. It reports by how much the median is slower with a scope.
func BenchmarkScope(b *testing.B) {
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, `{"choices":[]}`)
	}))
	defer upstream.Close()
	prompt := `"messages":[{"role":"user","content":"` + strings.Repeat("word ", 400) + `"}]`
	for name, body := range map[string]string{
		"model first": `{"model":"gpt-4o",` + prompt + `}`,
		"model last":  `{` + prompt + `,"model":"gpt-4o"}`,
	} {
		b.Run(name, func(b *testing.B) {
			ctx, err := caddy.ProvisionContext(&caddy.Config{})
			if err != nil {
				b.Fatal(err)
			}
			handlerOf := func(pool, options string) *reverseproxy.Handler {
				module, err := ctx.LoadModuleByID("http.handlers.reverse_proxy", json.RawMessage(fmt.Sprintf(
					`{"upstreams": [{"dial": %q}], "load_balancing": {"selection_policy": {"policy": "failover", "name": %q%s}}}`,
					strings.TrimPrefix(upstream.URL, "http://"), pool, options)))
				if err != nil {
					b.Fatal(err)
				}
				return module.(*reverseproxy.Handler)
			}
			handlers := [...]*reverseproxy.Handler{
				handlerOf("bench-without", ""),
				handlerOf("bench-with", `, "scope": {"by": "json", "value": "model"}`),
			}
			var took [len(handlers)][]time.Duration
			sent := []byte(body)
			for b.Loop() {
				for i, handler := range handlers {
					r := httptest.NewRequest(http.MethodPost, "http://api.test/v1/chat/completions", bytes.NewReader(sent))
					w := httptest.NewRecorder()
					r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), w, new(caddyhttp.Server))
					began := time.Now()
					if err := handler.ServeHTTP(w, r, caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error { return nil })); err != nil {
						b.Fatal(err)
					}
					took[i] = append(took[i], time.Since(began))
					if w.Code != http.StatusOK {
						b.Fatal(w.Code)
					}
				}
			}
			var median [len(handlers)]float64
			for i := range took {
				slices.Sort(took[i])
				median[i] = float64(took[i][len(took[i])/2])
			}
			b.ReportMetric(median[0], "ns/without")
			b.ReportMetric(median[1], "ns/with")
			b.ReportMetric(100*(median[1]/median[0]-1), "%slower")
		})
	}
}
