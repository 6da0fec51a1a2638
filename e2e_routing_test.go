package failover

import (
	"fmt"
	"math"
	"net/http"
	"testing"
	"time"
)

// spreadOf sends calls and returns which part each endpoint served.
func spreadOf(t *testing.T, p *proxy, calls int) map[string]float64 {
	t.Helper()
	served, parts := make(map[string]int), make(map[string]float64)
	for range calls {
		got := p.call("GET", "/", "")
		if got.status != 200 {
			t.Fatalf("got %+v", got)
		}
		served[got.body]++
	}
	for name, n := range served {
		parts[name] = float64(n) / float64(calls)
	}
	return parts
}

func wantPart(t *testing.T, parts map[string]float64, name string, want float64) {
	t.Helper()
	// four standard deviations of 1,000 draws
	if got := parts[name]; math.Abs(got-want) > 4*math.Sqrt(want*(1-want)/1000) {
		t.Errorf("endpoint %s served a part of %.3f, want %.3f: %v", name, got, want, parts)
	}
}

// endpoints writes endpoint blocks with an option each.
func endpoints(options []string, apis ...*api) (config string) {
	for i, a := range apis {
		config += fmt.Sprintf("\tendpoint http://%s {\n\t\tname %s\n\t\t%s\n\t}\n", a.address, a.name, options[i])
	}
	return config
}

func TestATierSharesByWeightAndTheNextOneWaits(t *testing.T) {
	one, two, three := newAPI(t, "one"), newAPI(t, "two"), newAPI(t, "three")
	p := startCaddy(t, "failover {\n\tname api\n"+endpoints([]string{"priority 1\n\t\tweight 3", "priority 1", "priority 2"}, one, two, three)+"}")
	parts := spreadOf(t, p, 1000)
	wantPart(t, parts, "one", 0.75)
	wantPart(t, parts, "two", 0.25)
	wantPart(t, parts, "three", 0)
	one.down()
	for range 20 {
		p.call("GET", "/", "")
	}
	wantPart(t, spreadOf(t, p, 200), "two", 1)
	two.down()
	for range 20 {
		p.call("GET", "/", "")
	}
	wantPart(t, spreadOf(t, p, 200), "three", 1)
}

func TestOverflowGivesTheNextTierWhatATierHasLost(t *testing.T) {
	apis := []*api{newAPI(t, "one"), newAPI(t, "two"), newAPI(t, "three")}
	p := startCaddy(t, "failover {\n\tname api\n"+endpoints([]string{"priority 1", "priority 1", "priority 2"}, apis...)+"\toverflow 1.4\n\tbreaker {\n\t\topen_for 60s\n\t}\n}")
	wantPart(t, spreadOf(t, p, 500), "three", 0)
	apis[0].down()
	for range 30 {
		p.call("GET", "/", "")
	}
	parts := spreadOf(t, p, 1000) // half of the tier is left, which may take 1.4 times that
	wantPart(t, parts, "two", 0.7)
	wantPart(t, parts, "three", 0.3)
}

func TestLeastLatencyPrefersTheFasterOne(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	one.behave(func(w http.ResponseWriter, r *http.Request) {
		<-time.After(8 * time.Millisecond)
		one.fine(w, r)
	})
	p := startCaddy(t, "failover {\n\tname api\n"+endpoints([]string{"priority 1", "priority 1"}, one, two)+"\tbalance least_latency\n}")
	for range 20 {
		p.call("GET", "/", "")
	}
	if parts := spreadOf(t, p, 200); parts["two"] < 0.7 { // of two draws by weight, a quarter is the slower one twice
		t.Errorf("the faster endpoint served %v", parts)
	}
}

func TestAnEndpointOfNoWeightGetsNoTraffic(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	p := startCaddy(t, "failover {\n\tname api\n"+endpoints([]string{"weight 0", "priority 2"}, one, two)+"}")
	wantPart(t, spreadOf(t, p, 100), "two", 1)
	two.down()
	for range 10 {
		if got := p.call("GET", "/", ""); got.status < 500 {
			t.Errorf("got %+v", got)
		}
	}
	if one.hits.Load() != 0 {
		t.Errorf("the endpoint of no weight got %d requests", one.hits.Load())
	}
}

func TestTryAnywayAsksWhereFailFastWouldRefuse(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	p := startCaddy(t, site("\n\tall_down try_anyway\n\tbreaker {\n\t\topen_for 60s\n\t}", one, two))
	one.answer(http.StatusServiceUnavailable)
	two.answer(http.StatusServiceUnavailable)
	for range 20 {
		p.call("GET", "/", "")
	}
	for range 20 {
		if got := p.call("GET", "/", ""); got.status != 503 || got.body == "" {
			t.Fatalf("the answer is not an endpoint's own: %+v", got)
		}
	}
	one.behave(one.fine)
	two.behave(two.fine)
	if got := p.call("GET", "/", ""); got.status != 200 {
		t.Errorf("the first call after the return: got %+v", got)
	}
}
