package failover

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/budget"
	"github.com/apifailover/caddy-failover/internal/ops"
	"github.com/apifailover/caddy-failover/internal/pool"
)

// does reports whether a value implements an interface.
func does[I any](value any) bool { _, ok := value.(I); return ok }

// TestModulesAreRegistered checks that Caddy finds each module by its ID, gets a new one each time, and
// can call all its methods.
func TestModulesAreRegistered(t *testing.T) {
	type method struct {
		name string
		does func(any) bool
	}
	provisions := method{"caddy.Provisioner", does[caddy.Provisioner]}
	validates := method{"caddy.Validator", does[caddy.Validator]}
	cleansUp := method{"caddy.CleanerUpper", does[caddy.CleanerUpper]}
	for id, test := range map[string]struct {
		module  caddy.Module
		methods []method
	}{
		"http.reverse_proxy.selection_policies.failover": {new(Policy), []method{provisions, validates, cleansUp,
			{"reverseproxy.Selector", does[reverseproxy.Selector]}, {"caddyfile.Unmarshaler", does[caddyfile.Unmarshaler]}}},
		"http.reverse_proxy.selection_policies.failover.events": {new(EventSource), []method{provisions}},
		"http.handlers.failover_dashboard": {new(ops.Dashboard), []method{provisions, validates, cleansUp,
			{"caddyhttp.MiddlewareHandler", does[caddyhttp.MiddlewareHandler]}}},
		"failover":           {new(App), []method{validates, {"caddy.App", does[caddy.App]}}},
		"admin.api.failover": {new(ops.AdminAPI), []method{provisions, {"caddy.AdminRouter", does[caddy.AdminRouter]}}},
	} {
		info, err := caddy.GetModule(id)
		if err != nil {
			t.Error(err)
			continue
		}
		one, two := info.New(), info.New()
		if got, want := reflect.TypeOf(one), reflect.TypeOf(test.module); info.ID != caddy.ModuleID(id) || got != want {
			t.Errorf("%s: got %s, a %v, want a %v", id, info.ID, got, want)
		}
		if one == two {
			t.Errorf("%s: New returned the same module twice", id)
		}
		for _, m := range test.methods {
			if !m.does(one) {
				t.Errorf("%s is no %s", id, m.name)
			}
		}
	}
}

// TestBadJSON checks that each mistake is an error when the handler is loaded, and that the error names
// the wrong word.
func TestBadJSON(t *testing.T) {
	const upstreams = `[{"dial": "one:1"}, {"dial": "two:2"}]`
	for _, test := range []struct{ name, policy, want string }{
		{"unknown option", `"balanec": "weighted"`, `json: unknown field "balanec"`},
		{"unknown option of an endpoint", `"endpoints": [{"upstream": "one:1", "wieght": 1}]`, `json: unknown field "wieght"`},
		{"unknown option of the breaker", `"breaker": {"closed_for": 1}`, `json: unknown field "closed_for"`},
		{"unknown option of retry", `"retry": {"tries": 1}`, `json: unknown field "tries"`},
		{"unknown option of the budget", `"retry": {"budget": {"share": 1}}`, `json: unknown field "share"`},
		{"a word for a number", `"overflow": "much"`, `cannot unmarshal string`},
		{"an endpoint that is not in the pool", `"endpoints": [{"upstream": "three:3", "defined_at": "Caddyfile:7"}]`,
			`Caddyfile:7: endpoint "three:3": no upstream of the proxy has the address three:3; it has one:1, two:2`},
		{"more endpoints of an address than upstreams", `"endpoints": [{"upstream": "one:1", "name": "a"}, {"upstream": "one:1", "name": "b"}]`,
			`endpoint "b": no upstream of the proxy has the address one:1: more endpoints than upstreams have it`},
		{"neither upstream nor url", `"endpoints": [{"name": "a"}]`, `endpoint "a": an endpoint needs an upstream or a url`},
		{"a name twice", `"endpoints": [{"upstream": "one:1", "name": "a"}, {"upstream": "two:2", "name": "a"}]`, `endpoint "a": the name is used twice`},
		{"the name of another upstream", `"endpoints": [{"upstream": "one:1", "name": "two:2"}]`, `endpoint "two:2": the name is used twice`},
		{"a url with a query", `"endpoints": [{"url": "http://one:1/?key=sEcReT"}]`, `endpoint "http://one:1/": base URL http://one:1/: a query is not allowed`},
		{"a url with a bad port", `"endpoints": [{"url": "http://u:sEcReT/@one:1"}]`, `endpoint "": malformed base URL`},
		{"a url without a scheme", `"endpoints": [{"upstream": "one:1", "url": "one:1"}]`, `endpoint "one:1": base URL one://: the scheme must be http or https`},
		{"a negative priority", `"endpoints": [{"upstream": "one:1", "priority": -1}]`, `endpoint "one:1": priority must be 1 or more`},
		{"a negative weight", `"endpoints": [{"upstream": "one:1", "weight": -0.5}]`, `endpoint "one:1": weight must be 0 or more`},
		{"a negative max_requests", `"endpoints": [{"upstream": "one:1", "max_requests": -1}]`, `endpoint "one:1": max_requests must not be negative`},
		{"a negative timeout of an endpoint", `"endpoints": [{"upstream": "one:1", "timeout": -1}]`, `endpoint "one:1": timeout must not be negative`},
		{"a matching timeout of nothing", `"endpoints": [{"upstream": "one:1", "timeouts": [{"match": [{"path": ["/x"]}]}]}]`, `endpoint "one:1": a timeout must be longer than 0`},
		{"an endpoint's quota", `"endpoints": [{"upstream": "one:1", "quota": "nobody"}]`, `endpoint "one:1": quota must be endpoint or client, not "nobody"`},
		{"quota", `"quota": "nobody"`, `quota must be endpoint or client, not "nobody"`},
		{"client_credentials", `"client_credentials": "keep"`, `client_credentials must be strip or pass, not "keep"`},
		{"balance", `"balance": "random"`, `balance must be weighted, least_latency or least_requests, not "random"`},
		{"all_down", `"all_down": "panic"`, `all_down must be fail_fast, try_anyway or wait, not "panic"`},
		{"overflow", `"overflow": 0.5`, `overflow must be strict or a factor of 1 or more, not 0.5`},
		{"timeout", `"timeout": -1`, `timeout must not be negative`},
		{"a matching timeout", `"timeouts": [{"match": [{"path": ["/x"]}], "timeout": 0}]`, `a timeout must be longer than 0`},
		{"a matcher that does not exist", `"timeouts": [{"match": [{"color": ["red"]}], "timeout": "1s"}]`, `unknown module: http.matchers.color`},
		{"failure_status", `"failure_status": ["5xx", "often"]`, `failure_status: invalid status "often"`},
		{"consecutive_failures", `"breaker": {"consecutive_failures": -1}`, `breaker: consecutive_failures must not be negative`},
		{"failure_ratio", `"breaker": {"failure_ratio": 1.5}`, `breaker: failure_ratio must be between 0 and 1`},
		{"slow_ratio", `"breaker": {"slow_ratio": -1, "slow_after": "1s"}`, `breaker: slow_ratio must be between 0 and 1`},
		{"slow_ratio alone", `"breaker": {"slow_ratio": 0.5}`, `breaker: slow_ratio and slow_after need each other`},
		{"slow_factor", `"breaker": {"slow_factor": 0.5}`, `breaker: slow_factor must be 0 or at least 1`},
		{"min_requests", `"breaker": {"min_requests": -1}`, `breaker: min_requests must not be negative`},
		{"start", `"breaker": {"start": 2}`, `breaker: start must be between 0 and 1`},
		{"step", `"breaker": {"step": -1}`, `breaker: durations must not be negative`},
		{"open_max", `"breaker": {"open_for": 2000000000, "open_max": 1000000000}`, `breaker: open_max (1s) must not be shorter than open_for (2s)`},
		{"attempts", `"retry": {"attempts": -1}`, `retry: attempts must be 1 or more`},
		{"methods", `"retry": {"methods": ["any", "GET"]}`, `retry: methods "any" cannot be combined with others`},
		{"budget", `"retry": {"budget": {"ratio": 2}}`, `retry: the budget's ratio must be between 0 and 1`},
		{"floor", `"retry": {"budget": {"floor": -1}}`, `retry: the budget's floor must not be negative`},
		{"backoff", `"retry": {"backoff": {"base": -1}}`, `retry: backoff must not be negative`},
		{"buffer", `"retry": {"buffer": -1}`, `retry: buffer must not be negative`},
		{"deadline", `"retry": {"deadline": -1}`, `retry: deadline must not be negative`},
	} {
		config := fmt.Sprintf(`{"upstreams": %s, "load_balancing": {"selection_policy": {"policy": "failover", %s}}}`, upstreams, test.policy)
		_, end, err := provisioned(t, []byte(config))
		switch {
		case err == nil:
			end()
			t.Errorf("%s: no error", test.name)
		case !strings.Contains(err.Error(), test.want):
			t.Errorf("%s: got %q, want %q in it", test.name, err, test.want)
		case strings.Contains(err.Error(), "sEcReT"):
			t.Errorf("%s: the message shows a secret: %q", test.name, err)
		}
		pool.Pools.Range(func(key, _ any) bool {
			t.Fatalf("%s: the pool %q is left over", test.name, key)
			return false
		})
	}
}

// TestZeros checks for which options zero means the same as no option.
func TestZeros(t *testing.T) {
	decode := func(text string, into any) {
		t.Helper()
		if err := json.Unmarshal([]byte(text), into); err != nil {
			t.Fatal(err)
		}
	}
	config := func(text string) breaker.Config {
		b := new(Breaker)
		decode(text, b)
		if err := b.validate(); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		return *b.config(time.Minute)
	}
	defaults := config(`{}`)
	if got := *(*Breaker)(nil).config(time.Minute); got != defaults {
		t.Errorf("no block: %+v, an empty one: %+v", got, defaults)
	}
	for text, change := range map[string]func(*breaker.Config){
		`{"consecutive_failures": 0}`: func(c *breaker.Config) { c.ConsecutiveFailures = 0 },
		`{"failure_ratio": 0}`:        func(c *breaker.Config) { c.FailureRatio = 0 },
		`{"slow_factor": 0}`:          func(c *breaker.Config) { c.SlowFactor = 0 },
		`{"min_requests": 0, "window": 0, "open_for": 0, "open_max": 0, "start": 0, "step": 0, "slow_ratio": 0, "slow_after": 0}`: func(*breaker.Config) {},
		`{"open_for": 600000000000}`: func(c *breaker.Config) {
			c.OpenFor, c.OpenMax, c.DeniedMax = 10*time.Minute, 10*time.Minute, 10*time.Minute
		},
		`{"open_for": 30000000000}`: func(c *breaker.Config) { c.OpenFor, c.OpenMax = 30*time.Second, 30*time.Second },
		`{"open_max": 60000000000}`: func(c *breaker.Config) { c.OpenMax, c.DeniedMax = time.Minute, time.Minute },
	} {
		want := defaults
		change(&want)
		if got := config(text); got != want {
			t.Errorf("%s: got %+v, want %+v", text, got, want)
		}
	}
	rules := func(text string) budget.Rules {
		r := new(Retry)
		decode(text, r)
		return r.rules().Budget
	}
	for text, want := range map[string]budget.Rules{
		`{}`:                                   {Ratio: 0.2, Floor: 3},
		`{"budget": {}}`:                       {Ratio: 0.2, Floor: 3},
		`{"budget": {"ratio": 0}}`:             {Ratio: 0, Floor: 3},
		`{"budget": {"floor": 0}}`:             {Ratio: 0.2, Floor: 0},
		`{"budget": {"ratio": 0, "floor": 0}}`: {Ratio: 0, Floor: 0},
	} {
		if got := rules(text); got != want {
			t.Errorf("%s: got %v, want %v", text, got, want)
		}
	}
	for text, want := range map[string]float64{`{}`: 1, `{"weight": 0}`: 0, `{"weight": 2}`: 2} {
		e := new(Endpoint)
		decode(text, e)
		if got := new(Policy).newTarget(e, 1).Weight; got != want {
			t.Errorf("%s: weight %v, want %v", text, got, want)
		}
	}
}

// TestHandlersOfOnePool checks that handlers of one pool must agree on the pool's settings, or that only
// one may have them.
func TestHandlersOfOnePool(t *testing.T) {
	site := func(first, second string) string {
		return ":80 {\n" +
			"handle /a {\nfailover {\nname api\nendpoint http://one:1 {\nname one\n}\n" + first + "\n}\n}\n" +
			"handle /b {\nreverse_proxy one:1 {\nlb_policy failover {\nname api\nupstream one:1 {\nname one\n}\n" + second + "\n}\n}\n}\n}\n"
	}
	for _, test := range []struct{ name, first, second, want string }{
		{"the same", "breaker {\nopen_for 1s\n}", "breaker {\nopen_for 1s\n}", ""},
		{"one says it", "breaker {\nopen_for 1s\n}", "", ""},
		{"what is each handler's own", "timeout 1s\nretry off\nfailure_status 500", "timeout 2s", ""},
		{"another breaker", "breaker {\nopen_for 1s\n}", "breaker {\nopen_for 2s\n}",
			`pool "api": the handlers of endpoint "one" (Caddyfile:21) and endpoint "one" (Caddyfile:9) give it different breakers`},
		{"a breaker and none", "breaker {\nopen_for 1s\n}", "breaker off",
			`pool "api": the handlers of endpoint "one" (Caddyfile:21) and endpoint "one" (Caddyfile:9) give it different breakers`},
	} {
		err := validates(t, site(test.first, test.second))
		switch {
		case test.want == "" && err != nil:
			t.Errorf("%s: %v", test.name, err)
		case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
			t.Errorf("%s: got %v, want %s", test.name, err, test.want)
		}
		pool.Pools.Range(func(key, _ any) bool {
			t.Fatalf("%s: the pool %q is left over", test.name, key)
			return false
		})
	}
	// The same endpoint at two URLs.
	other := ":80 {\nhandle /a {\nfailover {\nname api\nendpoint http://one:1/v1 {\nname one\n}\n}\n}\n" +
		"handle /b {\nfailover {\nname api\nendpoint http://one:1/v2 {\nname one\n}\n}\n}\n}\n"
	if err := validates(t, other); err == nil || !strings.Contains(err.Error(), `give endpoint "one" different URLs`) {
		t.Errorf("two URLs: got %v", err)
	}
}
