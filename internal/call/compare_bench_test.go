package call

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"go.uber.org/zap"

	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/budget"
	"github.com/apifailover/caddy-failover/internal/endpoint"
	"github.com/apifailover/caddy-failover/internal/event"
	"github.com/apifailover/caddy-failover/internal/outcome"
	"github.com/apifailover/caddy-failover/internal/pool"
	"github.com/apifailover/caddy-failover/internal/routing"
	"github.com/apifailover/caddy-failover/internal/target"
)

// bareRetry returns the default rules of retries.
func bareRetry() RetryRules {
	return RetryRules{
		Attempts: 3,
		Base:     100 * time.Millisecond,
		Cap:      2 * time.Second,
		Budget:   budget.Rules{Ratio: 0.2, Floor: 3},
		Buffer:   1 << 20,
	}
}

// bareHandler returns a handler outside Caddy whose endpoint i has the priority tiers[i]. Its pool's
// control loop does not run.
func bareHandler(tiers []int, cfg breaker.Config, retry RetryRules, now time.Time) (*Handler, error) {
	h := new(Handler)
	h.Retry, h.Breaker, h.Longest, h.Logger = retry, &cfg, bareTimeout, zap.NewNop()
	var err error
	if h.Failure, err = outcome.ParseStatusSet(outcome.DefaultFailureStatus); err != nil {
		return nil, err
	}
	for i, tier := range tiers {
		address := fmt.Sprintf("api-%d:80", i)
		h.Targets = append(h.Targets, &target.Target{
			Name: address, Address: address, Priority: tier, Weight: 1, Timeout: bareTimeout, Hedge: new(target.HedgeDelay),
			Upstream: &reverseproxy.Upstream{Dial: address, Host: new(reverseproxy.Host)},
		})
	}
	// a closed outbox takes no events; an open one would send them by the real clock
	h.Pool = &pool.Pool{Name: "bare", Phase: rand.Uint64(), Members: make(map[endpoint.Key]*pool.PoolMember), Outbox: &event.Outbox{Closed: true}}
	if err := h.Pool.Attach(&h.Handler, h); err != nil {
		return nil, err
	}
	h.Rebuild(now)
	return h, nil
}

// BenchmarkCompareSelect compares this policy with Caddy's own. failover measures a whole Select, with the
// call's record and the endpoint's permit, and the report of a success. failover-attempt measures the same
// without the record. failover-draw measures the choice alone, which is all that the other policies do.
func BenchmarkCompareSelect(b *testing.B) {
	for _, n := range []int{3, 30, 300} {
		var upstreams reverseproxy.UpstreamPool
		for i := range n {
			upstreams = append(upstreams, &reverseproxy.Upstream{Dial: fmt.Sprintf("api-%d:80", i), Host: new(reverseproxy.Host)})
		}
		weights := equalTier(n)
		weighted := &reverseproxy.WeightedRoundRobinSelection{Weights: weights}
		if err := weighted.Provision(caddy.Context{}); err != nil {
			b.Fatal(err)
		}
		for _, stock := range []struct {
			name   string
			policy reverseproxy.Selector
		}{
			{"first", new(reverseproxy.FirstSelection)},
			{"round_robin", new(reverseproxy.RoundRobinSelection)},
			{"random", new(reverseproxy.RandomSelection)},
			{"least_conn", new(reverseproxy.LeastConnSelection)},
			{"weighted_round_robin", weighted},
		} {
			b.Run(fmt.Sprintf("n=%d/policy=%s", n, stock.name), func(b *testing.B) {
				b.ReportAllocs()
				b.RunParallel(func(pb *testing.PB) {
					r := bareRequest(b)
					for pb.Next() {
						if stock.policy.Select(upstreams, r, nil) == nil {
							b.Fail()
						}
					}
				})
			})
		}
		p, err := bareHandler(equalTier(n), breaker.Defaults(bareTimeout), bareRetry(), time.Now())
		if err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprintf("n=%d/policy=failover", n), func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				r := bareRequest(b)
				vars := r.Context().Value(caddyhttp.VarsCtxKey).(map[string]any)
				for pb.Next() {
					if p.Select(upstreams, r, nil) == nil {
						b.Fail()
					}
					succeed(vars[varKey].(*Call), r.Context())
					vars[varKey] = nil
				}
			})
		})
		b.Run(fmt.Sprintf("n=%d/policy=failover-attempt", n), func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				r, c := bareRequest(b), new(Call)
				for pb.Next() {
					*c = Call{Handler: p, Request: r}
					if c.Next = p.choose(c, p.Table.Load(), time.Now()); c.Next == nil {
						b.Fail()
					}
					succeed(c, r.Context())
				}
			})
		})
		b.Run(fmt.Sprintf("n=%d/policy=failover-draw", n), func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for n := rand.Uint64(); pb.Next(); n++ {
					if p.Table.Load().Draw(routing.Spot(n)) < 0 {
						b.Fail()
					}
				}
			})
		})
	}
}

func bareRequest(b *testing.B) *http.Request {
	ctx := context.WithValue(context.Background(), caddyhttp.VarsCtxKey, make(map[string]any))
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://api.test/", nil)
	if err != nil {
		b.Fatal(err)
	}
	return r
}

// BenchmarkCompareBreaker measures the permit and the report of a success at a closed breaker, from many
// goroutines at once. As on the request path, it locks the endpoint's mutex and reads the clock for each.
func BenchmarkCompareBreaker(b *testing.B) {
	var mu sync.Mutex
	var thisBreaker breaker.Breaker
	cfg := new(breaker.Defaults(time.Second))
	b.Run("breaker=failover", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				now := time.Now()
				mu.Lock()
				permit, ok := thisBreaker.Acquire(now, cfg)
				mu.Unlock()
				if !ok {
					b.Fail()
				}
				now = time.Now()
				mu.Lock()
				thisBreaker.Report(now, cfg, permit, breaker.Result{})
				mu.Unlock()
			}
		})
	})
}

// succeed does what the transport does with an attempt that succeeds at once.
func succeed(c *Call, ctx context.Context) {
	a := c.Next
	c.Next, c.Current = nil, a
	a.Begin(ctx, 0)
	a.Answered(a.Began.Add(time.Since(a.Began)))
	a.BodyEnds(outcome.Success)
}
