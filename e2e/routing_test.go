package e2e

import (
	"math"
	"net/http"
	"testing"
	"time"
)

// parts sends calls, which must all succeed, and returns the part of them that each endpoint served, 0 to 1.
func (p *proxy) parts(calls int) map[string]float64 {
	p.t.Helper()
	parts := make(map[string]float64)
	for range calls {
		got := p.get()
		if got.status != 200 {
			p.t.Fatalf("got %+v", got)
		}
		parts[got.body] += 1 / float64(calls)
	}
	return parts
}

// wantPart checks an endpoint's part of 1,000 calls, with a tolerance of four standard deviations.
func wantPart(t *testing.T, parts map[string]float64, name string, want float64) {
	t.Helper()
	if got := parts[name]; math.Abs(got-want) > 4*math.Sqrt(want*(1-want)/1000)+1e-9 {
		t.Errorf("endpoint %s served %.3f of the calls, want %.3f: %v", name, got, want, parts)
	}
}

func TestATierSharesByWeight(t *testing.T) {
	apis := newAPIs(t, "one", "two", "three")
	p := startCaddy(t, edited("api", "", apis, "priority 1\nweight 3", "priority 1", "priority 2"))
	parts := p.parts(1000)
	wantPart(t, parts, "one", 0.75)
	wantPart(t, parts, "two", 0.25)
	wantPart(t, parts, "three", 0)
	apis[0].down()
	p.gets(20)
	wantPart(t, p.parts(200), "two", 1)
	apis[1].down()
	p.gets(20)
	wantPart(t, p.parts(200), "three", 1)
}

func TestOverflowToTheNextTier(t *testing.T) {
	apis := newAPIs(t, "one", "two", "three")
	p := startCaddy(t, edited("api", "overflow 1.4"+slowToReopen+evenIfSlow, apis, "priority 1", "priority 1", "priority 2"))
	wantPart(t, p.parts(500), "three", 0)
	apis[0].down()
	p.gets(30)
	parts := p.parts(1000) // half of the tier is left; it may take 1.4 times its usual load
	wantPart(t, parts, "two", 0.7)
	wantPart(t, parts, "three", 0.3)
}

func TestLeastLatencyPrefersTheFasterOne(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	one.behave(delayed(20*time.Millisecond, one.fine))
	p := startCaddy(t, edited("api", "balance least_latency", []*api{one, two}, "priority 1", "priority 1"))
	p.gets(20)
	// A quarter of the pairs drawn has only the slower endpoint. With 500 calls, chance does not make a third of it.
	if parts := p.parts(500); parts["two"] < 0.66 {
		t.Errorf("the faster endpoint served %v", parts)
	}
}

func TestAnEndpointOfWeight0GetsNoTraffic(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	p := startCaddy(t, edited("api", "", []*api{one, two}, "weight 0", "priority 2"))
	wantPart(t, p.parts(100), "two", 1)
	two.down()
	for range 10 {
		if got := p.get(); got.status < 500 {
			t.Errorf("got %+v", got)
		}
	}
	if hits := one.hits.Load(); hits != 0 {
		t.Errorf("the endpoint of weight 0 got %d requests", hits)
	}
}

// TestTryAnyway checks that calls go to endpoints that are out, if all are.
func TestTryAnyway(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	p := startCaddy(t, site("all_down try_anyway"+slowToReopen, one, two))
	one.answer(http.StatusServiceUnavailable)
	two.answer(http.StatusServiceUnavailable)
	p.gets(20)
	for range 20 {
		if got := p.get(); got.status != 503 || got.body == "" {
			t.Fatalf("the response is not an endpoint's own: %+v", got)
		}
	}
	one.behave(one.fine)
	two.behave(two.fine)
	if got := p.get(); got.status != 200 {
		t.Errorf("the first call after the return: got %+v", got)
	}
}
