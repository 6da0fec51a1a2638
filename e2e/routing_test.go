package e2e

import (
	"math"
	"net/http"
	"testing"
	"time"
)

// parts sends calls, which must all succeed, and returns which part each endpoint served.
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

// wantPart allows four standard deviations of 1,000 draws.
func wantPart(t *testing.T, parts map[string]float64, name string, want float64) {
	t.Helper()
	if got := parts[name]; math.Abs(got-want) > 4*math.Sqrt(want*(1-want)/1000)+1e-9 {
		t.Errorf("endpoint %s served a part of %.3f, want %.3f: %v", name, got, want, parts)
	}
}

func TestATierSharesByWeightAndTheNextOneWaits(t *testing.T) {
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

func TestOverflowGivesTheNextTierWhatATierHasLost(t *testing.T) {
	apis := newAPIs(t, "one", "two", "three")
	p := startCaddy(t, edited("api", "overflow 1.4"+slowToReopen, apis, "priority 1", "priority 1", "priority 2"))
	wantPart(t, p.parts(500), "three", 0)
	apis[0].down()
	p.gets(30)
	parts := p.parts(1000) // half of the tier is left, which may take 1.4 times that
	wantPart(t, parts, "two", 0.7)
	wantPart(t, parts, "three", 0.3)
}

func TestLeastLatencyPrefersTheFasterOne(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	one.behave(delayed(20*time.Millisecond, one.fine))
	p := startCaddy(t, edited("api", "balance least_latency", []*api{one, two}, "priority 1", "priority 1"))
	p.gets(20)
	if parts := p.parts(200); parts["two"] < 0.7 { // of two draws by weight, a quarter is the slower one twice
		t.Errorf("the faster endpoint served %v", parts)
	}
}

func TestAnEndpointOfNoWeightGetsNoTraffic(t *testing.T) {
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
		t.Errorf("the endpoint of no weight got %d requests", hits)
	}
}

func TestTryAnywayAsksWhereFailFastWouldRefuse(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	p := startCaddy(t, site("all_down try_anyway"+slowToReopen, one, two))
	one.answer(http.StatusServiceUnavailable)
	two.answer(http.StatusServiceUnavailable)
	p.gets(20)
	for range 20 {
		if got := p.get(); got.status != 503 || got.body == "" {
			t.Fatalf("the answer is not an endpoint's own: %+v", got)
		}
	}
	one.behave(one.fine)
	two.behave(two.fine)
	if got := p.get(); got.status != 200 {
		t.Errorf("the first call after the return: got %+v", got)
	}
}
