package e2e

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestDirectivePassesOnTheOptionsOfReverseProxy(t *testing.T) {
	one := newAPI(t, "one")
	p := startCaddy(t, site("header_down X-Endpoint {http.failover.endpoint}\n\ttransport http {\n\t\tversions 1.1\n\t}", one))
	if got := p.get().header.Get("X-Endpoint"); got != "one" {
		t.Errorf("header_down set X-Endpoint to %q", got)
	}
}

func TestFailsOverToTheNextTier(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	p := startCaddy(t, site("", one, two))
	p.get().want(t, "healthy", 200, "one")
	one.answer(http.StatusServiceUnavailable)
	for range 3 {
		p.get().want(t, "503", 200, "two")
	}
	one.down()
	for range 10 {
		p.get().want(t, "down", 200, "two")
	}
	p.wantState("one", "open")
}

// A fault takes the first endpoint out, or the first two, and heal ends it.
type fault struct {
	name        string
	begin, heal func(t *testing.T, one, two *api)
	dead        bool // the first endpoint gets nothing but trials
	lasts       int  // calls; default: 400
}

// misbehaving is a fault of an endpoint that goes on answering, in its own way.
func misbehaving(name string, h http.HandlerFunc) fault {
	return fault{
		name:  name,
		begin: func(_ *testing.T, one, _ *api) { one.behave(h) },
		heal:  func(_ *testing.T, one, _ *api) { one.behave(one.fine) },
		dead:  true,
	}
}

// refused is the fault of an endpoint where nobody listens.
var refused = fault{
	name:  "refused",
	begin: func(_ *testing.T, one, _ *api) { one.down() },
	heal:  func(t *testing.T, one, _ *api) { one.up(t, one.address) },
	dead:  true,
}

// sometimes is a fault of an endpoint that misbehaves when often says so, and is fine else.
func sometimes(name string, often func() bool, h http.HandlerFunc) fault {
	f := misbehaving(name, h)
	f.dead = false
	f.begin = func(_ *testing.T, one, _ *api) {
		one.behave(func(w http.ResponseWriter, r *http.Request) {
			if often() {
				h(w, r)
				return
			}
			one.fine(w, r)
		})
	}
	return f
}

// TestFaults has the primary fail in each way under 200 requests a second of each method, or 100 with the race detector.
// No client may see it, the dead primary must get hardly any attempts, and it must get its traffic back when it works
// again.
func TestFaults(t *testing.T) {
	bodies := map[string]string{http.MethodGet: "", http.MethodPost: strings.Repeat("0123456789abcdef", 256)}
	began := time.Now()
	flapping := sometimes("flapping", func() bool { return int(time.Since(began)/(1500*time.Millisecond))%2 == 0 }, cut)
	flapping.lasts = 1000
	for _, fault := range []fault{
		refused,
		misbehaving("503", status(http.StatusServiceUnavailable)),
		sometimes("30 percent 500", func() bool { return rand.Float64() < 0.3 }, status(http.StatusInternalServerError)),
		misbehaving("cut before headers", cut),
		{
			name:  "two of three down",
			begin: func(_ *testing.T, one, two *api) { one.down(); two.down() },
			heal:  func(t *testing.T, one, two *api) { one.up(t, one.address); two.up(t, two.address) },
			dead:  true,
		},
		flapping,
	} {
		apart(t, fault.name, func(t *testing.T) {
			// one pool of three endpoints for each method, which fail together
			config, pools := "", make(map[string][]*api)
			for method := range bodies {
				pools[method] = newAPIs(t, "one", "two", "three")
				config += fmt.Sprintf("handle /%s {\n%s\n}\n", method, pooled(method, quick, pools[method]...))
			}
			p := startCaddy(t, config)
			loads := make(map[string]*load)
			for method, body := range bodies {
				loads[method] = p.startLoadAt("/"+method, 200/loadPart, method, body)
			}
			await := loads[http.MethodGet].await // the other one goes as fast
			await(60)
			for _, apis := range pools {
				fault.begin(t, apis[0], apis[1])
			}
			await(200)
			attempts, calls, since := make(map[string]int), make(map[string]int), time.Now()
			for method := range pools {
				attempts[method] -= int(p.endpoint(method, "one").Attempts)
				calls[method] -= sum(p.callsOf(method))
			}
			await(max(400, fault.lasts))
			for method, apis := range pools {
				attempts[method] += int(p.endpoint(method, "one").Attempts)
				calls[method] += sum(p.callsOf(method))
				fault.heal(t, apis[0], apis[1])
			}
			over := time.Now()
			trials := 1 + 2*over.Sub(since).Seconds() // 1 % of 200 calls a second
			for method, load := range loads {
				p.back(method, "one")
				back := time.Since(over)
				load.stop()
				load.wantNoFailure()
				t.Logf("%s: %d calls, p50 %v p99 %v; the faulty primary got %d of %d calls; back after %v", method,
					load.answered(), load.quantile(0.5), load.quantile(0.99), attempts[method], calls[method], back)
				if fault.dead && float64(attempts[method]) > trials {
					t.Errorf("%s: the dead primary got %d of %d calls", method, attempts[method], calls[method])
				}
			}
		})
	}
}

// A growing capacity is that of an endpoint that has just started: 10 requests a second, 78 more each
// second, up to 400, and a quarter of a second's worth at once.
type growing struct {
	mu              sync.Mutex
	tokens          float64
	began, last     time.Time
	served, refused int
}

// take reports whether there is capacity for a request.
func (g *growing) take() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	capacity := min(400, 10+78*now.Sub(g.began).Seconds())
	g.tokens = min(capacity/4, g.tokens+capacity*now.Sub(g.last).Seconds())
	g.last = now
	if g.tokens < 1 {
		g.refused++
		return false
	}
	g.tokens--
	g.served++
	return true
}

// TestFollowsAColdReturn checks that a primary that comes back with little, growing capacity is not
// overloaded.
func TestFollowsAColdReturn(t *testing.T) {
	apis := newAPIs(t, "one", "two", "three")
	one := apis[0]
	p := startCaddy(t, site(quick, apis...))
	load := p.startLoad(200, http.MethodGet, "")
	load.await(100)
	one.down()
	load.await(400)
	now := time.Now()
	capacity := &growing{tokens: 1, began: now, last: now}
	one.behave(func(w http.ResponseWriter, r *http.Request) {
		if !capacity.take() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		one.fine(w, r)
	})
	one.up(t, one.address)
	back := p.back("api", "one")
	load.stop()
	load.wantNoFailure()
	t.Logf("%d served, %d refused, back after %v", capacity.served, capacity.refused, back)
	if capacity.refused*10 >= capacity.served+capacity.refused {
		t.Errorf("the returning primary refused %d of %d attempts", capacity.refused, capacity.served+capacity.refused)
	}
}

// TestAllDown checks that calls get an answer at once while no endpoint works, and that service is back soon
// after the first endpoint.
func TestAllDown(t *testing.T) {
	for _, fault := range []fault{
		refused,
		misbehaving("503", status(http.StatusServiceUnavailable)),
		misbehaving("hang", silent),
	} {
		apart(t, fault.name, func(t *testing.T) {
			apis := newAPIs(t, "one", "two", "three")
			p := startCaddy(t, site(strings.Replace(quick, "timeout 30s", "timeout 500ms", 1), apis...))
			p.get()
			for _, a := range apis {
				fault.begin(t, a, nil)
			}
			load := p.startLoad(50, http.MethodGet, "")
			eventually(t, "all breakers are open", func() bool {
				for _, a := range apis {
					if p.one(a.name).State == "closed" {
						return false
					}
				}
				return true
			})
			load.stop()
			// trials are one in 250 ms, and one when an endpoint's open period is over
			load = p.startLoad(100, http.MethodGet, "")
			load.await(100)
			load.stop()
			// a period lasts 1 s ± 20 %
			refused, typical := 0, load.quantile(0.5)
			for what, n := range load.seen {
				if strings.HasPrefix(what, "503 ") && (strings.Contains(what, "try again in 1 s") || strings.Contains(what, "try again in 2 s")) {
					refused += n
				}
			}
			if refused*5 < load.answered()*4 || typical > 250*time.Millisecond {
				t.Errorf("%d of %d calls were refused, typically within %v; got %v", refused, load.answered(), typical, load.seen)
			}
			fault.heal(t, apis[1], nil)
			back := eventually(t, "service after the first return", func() bool {
				got := p.get()
				return got.status == 200 && got.body == "two"
			})
			t.Logf("%d of %d refused, typically within %v, back after %v", refused, load.answered(), typical, back)
		})
	}
}
