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

	"github.com/apifailover/caddy-failover/internal/call"
	"github.com/apifailover/caddy-failover/internal/outcome"
	"github.com/apifailover/caddy-failover/internal/pool"
	"github.com/apifailover/caddy-failover/internal/routing"
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
	l.policy.Pool.Mu.Lock()
	targets := l.policy.Table.Load().Targets
	l.policy.Table.Store(pool.NewRoutes(targets, slices.Repeat([]float64{0.5}, len(targets)), 0))
	l.policy.Pool.Mu.Unlock()
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
	r.Context().Value(caddyhttp.VarsCtxKey).(map[string]any)[call.VarKey] = nil
}

// BenchmarkDraw measures the selection itself: one draw from the routing table.
func BenchmarkDraw(b *testing.B) {
	for _, n := range poolSizes {
		table := benchLab(b, n).policy.Table.Load()
		for name, draw := range map[string]func(float64) int{"weighted": table.Draw, "least_latency": func(u float64) int { return table.DrawTwo(u, table.Load) }} {
			b.Run(fmt.Sprintf("%s/%d", name, n), func(b *testing.B) {
				b.ReportAllocs()
				b.RunParallel(func(pb *testing.PB) {
					for n := rand.Uint64(); pb.Next(); n++ {
						draw(routing.Spot(n))
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
					vars[call.VarKey] = nil // as in a request that no policy has seen
					if p.Select(l.handler.Upstreams, r, w) == nil {
						b.Fatal("nothing selected")
					}
					succeed(vars[call.VarKey].(*call.Call), r.Context())
				}
			})
		})
	}
}

// succeed is what the transport does with an attempt that is answered at once.
func succeed(c *call.Call, ctx context.Context) {
	a := c.Next
	c.Next, c.Current = nil, a
	a.Begin(ctx, 0)
	a.Answered(a.Began.Add(time.Since(a.Began)))
	a.BodyEnds(outcome.Success)
}

// BenchmarkRoundTrip measures all that the policy adds to an attempt: Select and
// its transport, around a transport that answers at once.
func BenchmarkRoundTrip(b *testing.B) {
	for _, n := range poolSizes {
		l := benchLab(b, n)
		p := l.policy
		transport := l.handler.Transport.(*call.Transport)
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
