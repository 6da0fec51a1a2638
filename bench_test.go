package failover

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/apifailover/caddy-failover/internal/outcome"
)

// poolSizes are the numbers of endpoints that are measured: three tiers each.
var poolSizes = []int{3, 30, 300}

// benchLab is a handler with n endpoints in three tiers, of which the first is
// recovering in part, so that draws reach all tiers.
func benchLab(b *testing.B, n int) *lab {
	config := `{"upstreams": [`
	endpoints := ""
	for i := range n {
		if i > 0 {
			config, endpoints = config+",", endpoints+","
		}
		config += fmt.Sprintf(`{"dial": "e%d:1"}`, i)
		endpoints += fmt.Sprintf(`{"upstream": "e%d:1", "priority": %d, "weight": %d}`, i, 1+3*i/n, 1+i%4)
	}
	config += `], "load_balancing": {"selection_policy": {"policy": "failover", "endpoints": [` + endpoints + `]}}}`
	l, err := openLabJSON(b, []byte(config))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(l.close)
	l.policy.pool.mu.Lock()
	targets := l.policy.table.Load().targets
	l.policy.table.Store(newRoutes(targets, slices.Repeat([]float64{0.5}, len(targets)), 0))
	l.policy.pool.mu.Unlock()
	return l
}

// benchRequest is one as the proxy hands it to Select, but for the replacer: one
// that serves many calls would grow with each.
func benchRequest() *http.Request {
	r := httptest.NewRequest("GET", "http://api.test/v1/chat", nil)
	return r.WithContext(context.WithValue(r.Context(), caddyhttp.VarsCtxKey, make(map[string]any)))
}

// fresh makes a request one that no policy has seen.
func fresh(r *http.Request) {
	r.Context().Value(caddyhttp.VarsCtxKey).(map[string]any)[callKey] = nil
}

// BenchmarkDraw measures the selection itself: one draw from the routing table.
func BenchmarkDraw(b *testing.B) {
	for _, n := range poolSizes {
		table := benchLab(b, n).policy.table.Load()
		for name, draw := range map[string]func(float64) int{"weighted": table.draw, "least_latency": func(u float64) int { return table.drawTwo(u, table.load) }} {
			b.Run(fmt.Sprintf("%s/%d", name, n), func(b *testing.B) {
				b.ReportAllocs()
				b.RunParallel(func(pb *testing.PB) {
					for n := rand.Uint64(); pb.Next(); n++ {
						draw(spot(n))
					}
				})
			})
		}
	}
}

// BenchmarkWeightedRoundRobin is Caddy's own weighted policy over the same
// upstreams and weights.
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

// BenchmarkSelect measures Select for a whole call of one attempt: making the
// call's record, drawing, and putting the attempt in flight; and what the
// attempt is taken out with.
func BenchmarkSelect(b *testing.B) {
	for _, n := range poolSizes {
		l := benchLab(b, n)
		p := l.policy
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				r, w := benchRequest(), httptest.NewRecorder()
				vars := r.Context().Value(caddyhttp.VarsCtxKey).(map[string]any)
				for pb.Next() {
					vars[callKey] = nil // as in a request that no policy has seen
					if p.Select(l.handler.Upstreams, r, w) == nil {
						b.Fatal("nothing selected")
					}
					succeed(vars[callKey].(*call), r.Context())
				}
			})
		})
	}
}

// succeed is what the transport does with an attempt that is answered at once.
func succeed(c *call, ctx context.Context) {
	a := c.next
	c.next, c.current = nil, a
	a.begin(ctx, a.began, 0)
	a.answered(a.began.Add(time.Since(a.began)))
	a.bodyEnds(outcome.Success)
}

// BenchmarkRoundTrip measures all that the policy adds to an attempt: Select and
// its transport, around a transport that answers at once.
func BenchmarkRoundTrip(b *testing.B) {
	for _, n := range poolSizes {
		l := benchLab(b, n)
		p := l.policy
		transport := l.handler.Transport.(*transport)
		transport.RoundTripper = roundTripper(func(r *http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 200, Body: http.NoBody, Request: r}, nil
		})
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				r, w := benchRequest(), httptest.NewRecorder()
				for pb.Next() {
					fresh(r)
					if p.Select(l.handler.Upstreams, r, w) == nil {
						b.Fatal("nothing selected")
					}
					resp, err := transport.RoundTrip(r.WithContext(r.Context())) // as the proxy does
					if err != nil {
						b.Fatal(err)
					}
					resp.Body.Close()
				}
			})
		})
	}
}
