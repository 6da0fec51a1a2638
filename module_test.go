package failover

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// site is a failover directive over endpoints in priority order.
func site(options string, apis ...*api) string { return pooled("api", options, apis...) }

// pooled is site for a pool of another name.
func pooled(name, options string, apis ...*api) string {
	var b strings.Builder
	fmt.Fprintf(&b, "failover {\n\tname %s\n", name)
	for _, a := range apis {
		fmt.Fprintf(&b, "\tendpoint http://%s {\n\t\tname %s\n\t}\n", a.address, a.name)
	}
	b.WriteString(options)
	b.WriteString("\n}")
	return b.String()
}

// quick lets a breaker try again after a second, so that tests end.
const quick = `
	timeout 1s
	breaker {
		open_for 1s
		open_max 1s
	}
	retry {
		attempts 3
		methods any
	}`

func TestDirectivePassesOnTheOptionsOfReverseProxy(t *testing.T) {
	one := newAPI(t, "one")
	p := startCaddy(t, site("\theader_down X-Endpoint {http.failover.endpoint}\n\ttransport http {\n\t\tversions 1.1\n\t}", one))
	resp, err := p.do(http.MethodGet, "/", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if got := resp.Header.Get("X-Endpoint"); got != "one" {
		t.Errorf("header_down set X-Endpoint to %q", got)
	}
}

func TestFailsOverToTheNextTier(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	p := startCaddy(t, site("", one, two))
	if status, body := p.get("/"); status != 200 || body != "one" {
		t.Fatalf("healthy: got %d %q", status, body)
	}
	one.answer(http.StatusServiceUnavailable)
	for range 3 {
		if status, body := p.get("/"); status != 200 || body != "two" {
			t.Fatalf("503: got %d %q", status, body)
		}
	}
	one.down()
	for range 10 {
		if status, body := p.get("/"); status != 200 || body != "two" {
			t.Fatalf("down: got %d %q", status, body)
		}
	}
	if state := stateOf(t, "api", "one").breakerNow(); state != stateOpen {
		t.Errorf("the breaker of the dead endpoint is %v", state)
	}
}

// TestFaults lets the primary fail in each way while 200 requests a second come
// in. No client may see it; the dead primary gets next to no attempts; and it
// gets its traffic back when it is well.
func TestFaults(t *testing.T) {
	body := strings.Repeat("0123456789abcdef", 256)
	faults := []struct {
		name  string
		begin func(t *testing.T, one, two *api)
		heal  func(t *testing.T, one, two *api)
		dead  bool          // gets nothing but trials
		lasts time.Duration // default: 2 s
	}{{
		name:  "refused",
		begin: func(_ *testing.T, one, _ *api) { one.down() },
		heal:  func(t *testing.T, one, _ *api) { one.up(t, one.address) },
		dead:  true,
	}, {
		name:  "503",
		begin: func(_ *testing.T, one, _ *api) { one.answer(http.StatusServiceUnavailable) },
		heal:  func(_ *testing.T, one, _ *api) { one.behave(one.fine) },
		dead:  true,
	}, {
		name: "30 percent 500",
		begin: func(_ *testing.T, one, _ *api) {
			one.behave(func(w http.ResponseWriter, r *http.Request) {
				if rand.Float64() < 0.3 {
					w.WriteHeader(http.StatusInternalServerError)
					return
				}
				one.fine(w, r)
			})
		},
		heal: func(_ *testing.T, one, _ *api) { one.behave(one.fine) },
	}, {
		name:  "cut before headers",
		begin: func(_ *testing.T, one, _ *api) { one.behave(cut) },
		heal:  func(_ *testing.T, one, _ *api) { one.behave(one.fine) },
		dead:  true,
	}, {
		name:  "two of three down",
		begin: func(_ *testing.T, one, two *api) { one.down(); two.down() },
		heal:  func(t *testing.T, one, two *api) { one.up(t, one.address); two.up(t, two.address) },
		dead:  true,
	}, {
		name:  "flapping",
		lasts: 5 * time.Second,
		begin: func(_ *testing.T, one, _ *api) {
			began := time.Now()
			one.behave(func(w http.ResponseWriter, r *http.Request) {
				if int(time.Since(began)/(1500*time.Millisecond))%2 == 0 {
					cut(w, r)
					return
				}
				one.fine(w, r)
			})
		},
		heal: func(_ *testing.T, one, _ *api) { one.behave(one.fine) },
	}}
	for _, fault := range faults {
		t.Run(fault.name, func(t *testing.T) {
			// one pool of three endpoints for each method, which fail together
			pools := map[string][]*api{}
			config := ""
			for _, method := range []string{http.MethodGet, http.MethodPost} {
				apis := []*api{newAPI(t, "one"), newAPI(t, "two"), newAPI(t, "three")}
				pools[method] = apis
				config += fmt.Sprintf("handle /%s {\n%s\n}\n", method, pooled(method, quick, apis...))
			}
			p := startCaddy(t, config)
			loads := map[string]*load{
				http.MethodGet:  p.startLoad(200, http.MethodGet, "/GET", ""),
				http.MethodPost: p.startLoad(200, http.MethodPost, "/POST", body),
			}
			lasting(300 * time.Millisecond)
			for _, apis := range pools {
				fault.begin(t, apis[0], apis[1])
			}
			lasting(time.Second)
			attempts, calls := map[string]float64{}, map[string]float64{}
			for method := range pools {
				attempts[method] = -float64(stateOf(t, method, "one").totalsNow().Attempts)
				calls[method] = -float64(runningPool(t, method).budget.calls.Load())
			}
			lasting(cmp.Or(fault.lasts, 2*time.Second))
			for method, apis := range pools {
				attempts[method] += float64(stateOf(t, method, "one").totalsNow().Attempts)
				calls[method] += float64(runningPool(t, method).budget.calls.Load())
				fault.heal(t, apis[0], apis[1])
			}
			healed := time.Now()
			for method, load := range loads {
				eventually(t, 5*time.Second-time.Since(healed), "the primary has its full share again", func() bool {
					return stateOf(t, method, "one").breakerNow() == stateClosed && shareOf(t, method, "one") > 0.99
				})
				back := time.Since(healed)
				load.stop()
				t.Logf("%s: %d calls, %d failed, p50 %v p99 %v; dead primary got %.2f %% of them; back after %v", method,
					len(load.times), load.failed, load.quantile(0.5), load.quantile(0.99), 100*attempts[method]/calls[method], back)
				if load.failed > 0 {
					t.Errorf("%s: %d of %d calls failed: %q", method, load.failed, len(load.times), load.errors)
				}
				if fault.dead && attempts[method] >= 0.01*calls[method] {
					t.Errorf("%s: the dead primary got %.0f of %.0f calls", method, attempts[method], calls[method])
				}
			}
		})
	}
}

// shareOf is the part of the calls that the routing table gives an endpoint.
func shareOf(t testing.TB, pool, endpoint string) float64 {
	t.Helper()
	p := runningPool(t, pool)
	table := p.generation.Load().policies[0].table.Load()
	for i, target := range table.targets {
		if target.name == endpoint {
			return table.share(i)
		}
	}
	t.Fatalf("no endpoint %q", endpoint)
	return 0
}

// TestFollowsAColdReturn lets the primary come back with little capacity, which
// grows: it must not be flattened.
func TestFollowsAColdReturn(t *testing.T) {
	one, two, three := newAPI(t, "one"), newAPI(t, "two"), newAPI(t, "three")
	p := startCaddy(t, site(quick, one, two, three))
	load := p.startLoad(200, http.MethodGet, "/", "")
	lasting(500 * time.Millisecond)
	one.down()
	lasting(2 * time.Second)

	var mu sync.Mutex
	served, refused := 0, 0
	tokens, last, began := 1.0, time.Now(), time.Now()
	one.behave(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		now := time.Now()
		capacity := min(400, 10+78*now.Sub(began).Seconds())
		tokens = min(capacity/4, tokens+capacity*now.Sub(last).Seconds())
		last = now
		ok := tokens >= 1
		if ok {
			tokens--
			served++
		} else {
			refused++
		}
		mu.Unlock()
		if !ok {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		one.fine(w, r)
	})
	one.up(t, one.address)
	primary := stateOf(t, "api", "one")
	back := eventually(t, 15*time.Second, "the primary has its full share again", func() bool {
		return primary.breakerNow() == stateClosed && shareOf(t, "api", "one") > 0.99
	})
	load.stop()
	t.Logf("%d served, %d refused, back after %v", served, refused, back)
	if load.failed > 0 {
		t.Errorf("%d of %d calls failed: %q", load.failed, len(load.times), load.errors)
	}
	if refused*10 >= served+refused {
		t.Errorf("the returning primary refused %d of %d attempts", refused, served+refused)
	}
}

// TestAllDown wants an answer at once while nothing works, however that shows,
// and service soon after the first endpoint is back.
func TestAllDown(t *testing.T) {
	faults := []struct {
		name        string
		begin, heal func(*testing.T, *api)
	}{{
		name:  "refused",
		begin: func(_ *testing.T, a *api) { a.down() },
		heal:  func(t *testing.T, a *api) { a.up(t, a.address) },
	}, {
		name:  "503",
		begin: func(_ *testing.T, a *api) { a.answer(http.StatusServiceUnavailable) },
		heal:  func(_ *testing.T, a *api) { a.behave(a.fine) },
	}, {
		name: "hang",
		begin: func(_ *testing.T, a *api) {
			a.behave(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		},
		heal: func(_ *testing.T, a *api) { a.behave(a.fine) },
	}}
	for _, fault := range faults {
		t.Run(fault.name, func(t *testing.T) {
			apis := []*api{newAPI(t, "one"), newAPI(t, "two"), newAPI(t, "three")}
			p := startCaddy(t, site(strings.Replace(quick, "timeout 1s", "timeout 300ms", 1), apis...))
			p.get("/")
			for _, a := range apis {
				fault.begin(t, a)
			}
			load := p.startLoad(50, http.MethodGet, "/", "")
			eventually(t, 5*time.Second, "all breakers are open", func() bool {
				for _, a := range apis {
					if stateOf(t, "api", a.name).breakerNow() == stateClosed {
						return false
					}
				}
				return true
			})
			load.stop()
			// trials are one in 250 ms, and one when an endpoint's open period is over
			load = p.startLoad(100, http.MethodGet, "/", "")
			lasting(time.Second)
			load.stop()
			// a period lasts 1 s ± 20 %
			refused, typical := load.seen["503 retry after 1"]+load.seen["503 retry after 2"], load.quantile(0.5)
			if refused*5 < len(load.times)*4 || typical > 5*time.Millisecond {
				t.Errorf("%d of %d calls were refused, typically within %v; got %v", refused, len(load.times), typical, load.seen)
			}
			fault.heal(t, apis[1])
			back := eventually(t, 2*time.Second, "service after the first return", func() bool {
				got := p.call("GET", "/", "")
				return got.status == 200 && got.body == "two"
			})
			t.Logf("%d of %d refused, typically within %v, back after %v", refused, len(load.times), typical, back)
		})
	}
}
