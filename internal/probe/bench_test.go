package probe

import (
	"net/http"
	"testing"
	"time"

	"github.com/apifailover/caddy-failover/internal/endpoint"
	"github.com/apifailover/caddy-failover/internal/outcome"
)

// BenchmarkRun is a check without its round trip.
func BenchmarkRun(b *testing.B) {
	expect, err := outcome.ParseStatusSet([]string{"2xx"})
	if err != nil {
		b.Fatal(err)
	}
	cfg := &endpoint.CheckConfig{Ask: endpoint.Ask{Method: http.MethodGet, Path: "/health", Expect: expect}, Timeout: time.Second}
	to := at("127.0.0.1:80")
	pass := trip(func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}, nil
	})
	p := New(b.Context(), cfg, pass, to)
	b.ReportAllocs()
	for b.Loop() {
		if result := p.Run(false); !result.Passed {
			b.Fatal(result.Why)
		}
	}
}
