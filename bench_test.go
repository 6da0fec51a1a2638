package failover

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

// poolSizes are the numbers of endpoints in benchmarks. They are in three tiers.
var poolSizes = []int{3, 30, 300}

// benchHandler returns a handler with n endpoints in three tiers. Its transport responds at once.
func benchHandler(b *testing.B, n int) *reverseproxy.Handler {
	config := `{"transport": {"protocol": "canned"}, "upstreams": [`
	endpoints := ""
	for i := range n {
		if i > 0 {
			config, endpoints = config+",", endpoints+","
		}
		config += fmt.Sprintf(`{"dial": "e%d:1"}`, i)
		endpoints += fmt.Sprintf(`{"upstream": "e%d:1", "priority": %d, "weight": %d}`, i, 1+3*i/n, 1+i%4)
	}
	config += `], "load_balancing": {"selection_policy": {"policy": "failover", "endpoints": [` + endpoints + `]}}}`
	h, end, err := provisioned(b, []byte(config))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(end)
	return h
}

// benchRequest returns a request as Select gets it from the proxy, but without a replacer, which would
// grow with each call.
func benchRequest() *http.Request {
	r := httptest.NewRequest("GET", "http://api.test/v1/chat", nil)
	return r.WithContext(context.WithValue(r.Context(), caddyhttp.VarsCtxKey, make(map[string]any)))
}

// BenchmarkWeightedRoundRobin measures Caddy's own weighted policy over the same upstreams and
// weights.
func BenchmarkWeightedRoundRobin(b *testing.B) {
	for _, n := range poolSizes {
		pool := make(reverseproxy.UpstreamPool, n)
		policy := new(reverseproxy.WeightedRoundRobinSelection)
		for i := range pool {
			pool[i] = &reverseproxy.Upstream{Host: new(reverseproxy.Host), Dial: fmt.Sprintf("e%d:1", i)}
			policy.Weights = append(policy.Weights, 1+i%4)
		}
		if err := policy.Provision(caddy.Context{}); err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				r := benchRequest()
				for pb.Next() {
					if policy.Select(pool, r, nil) == nil {
						b.Fatal("nothing selected")
					}
				}
			})
		})
	}
}

// BenchmarkRoundTrip measures all that the policy adds to an attempt: Select and its transport, around
// a transport that responds at once.
func BenchmarkRoundTrip(b *testing.B) {
	for _, n := range poolSizes {
		h := benchHandler(b, n)
		policy := h.LoadBalancing.SelectionPolicy
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				r, w := benchRequest(), httptest.NewRecorder()
				for pb.Next() {
					clear(r.Context().Value(caddyhttp.VarsCtxKey).(map[string]any)) // as in a request that no policy has seen
					if policy.Select(h.Upstreams, r, w) == nil {
						b.Fatal("nothing selected")
					}
					resp, err := h.Transport.RoundTrip(r.WithContext(r.Context())) // as the proxy does
					if err != nil {
						b.Fatal(err)
					}
					resp.Body.Close()
				}
			})
		})
	}
}
