package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// TestKeysInThePolicy checks that each further key of an upstream becomes an endpoint with the same base URL and
// options, and that the tiers of later upstreams do not change.
func TestKeysInThePolicy(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	var h heard
	h.hears(one, func(r *http.Request, _ string) string { return r.Header.Get("Authorization") + " " + r.URL.Path })
	t.Setenv("E2E_URL", "http://"+one.address+"/base")
	p := startCaddy(t, fmt.Sprintf(`reverse_proxy {env.E2E_URL} %s {
	lb_policy failover {
		name api
		api openai%s
		upstream {env.E2E_URL} {
			name one
			key a
			key b
			key c
			timeout /slow 5m
		}
		upstream %[1]s {
			name two
			priority 2
		}
	}
}`, two.address, evenIfSlow))
	for range 30 {
		p.call(http.MethodGet, "/x", "")
	}
	seen := h.take()
	for _, key := range []string{"a", "b", "c"} {
		if n := strings.Count(seen, "one Bearer "+key+" /base/x"); n < 5 {
			t.Errorf("key %s was used %d times: %s", key, n, seen)
		}
	}
	for name, want := range map[string]int{"one-1": 1, "one-2": 1, "one-3": 1, "two": 2} {
		if got := p.one(name).Priority; got != want {
			t.Errorf("the priority of %s is %d, want %d", name, got, want)
		}
	}
	p.wantTotals("two", totals{})
	one.behave(says(http.StatusUnauthorized, inJSON, `{"error":{"code":"invalid_api_key"}}`))
	p.call(http.MethodPost, "/x", "x").want(t, "while all keys of one are refused", 200, "two"+digest("x"))
	p.quiet()
}

// TestKeyErrorsShowNoKey checks that keys that cannot work are errors of the configuration, which show no key.
func TestKeyErrorsShowNoKey(t *testing.T) {
	one := newAPI(t, "one")
	p := startCaddy(t, site("", one))
	for _, test := range []struct{ site, want string }{
		{edited("api", "api openai", []*api{one}, "key {env.E2E_NOT_SET}"), "key: {env.E2E_NOT_SET}: the environment variable is not set"},
		{"failover {\n\tname api\n\tapi openai\n\tendpoint api.example {\n\t\tkey sEcReT\n\t}\n}", "a scheme is missing, and its credentials would go out in plain text"},
		{"failover {\n\tname api\n\tapi openai\n\tdynamic a localhost 1\n\tendpoint http://one.test:1 {\n\t\tkey sEcReT\n\t\tkey sEcReT2\n\t}\n}", "an endpoint of dynamic upstreams has one key at most"},
	} {
		err := p.load(test.site)
		switch {
		case err == nil || !strings.Contains(err.Error(), test.want):
			t.Errorf("%s: %v", test.site, err)
		case strings.Contains(err.Error(), "sEcReT"):
			t.Errorf("the error shows a key: %v", err)
		}
	}
}

// TestABodyThatIsNoJSON checks that a body that is no JSON goes to an endpoint without a model of its own, because
// no model can be set in it.
func TestABodyThatIsNoJSON(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	p := startCaddy(t, edited("api", "api openai", []*api{one, two}, "key a\nmodel x", "key b"))
	p.call(http.MethodPost, "/v1/audio/transcriptions", "--form--").want(t, "a form", 200, "two"+digest("--form--"))
	p.call(http.MethodGet, "/v1/models", "").want(t, "no body", 200, "one"+digest(""))
	one.down()
	p.call(http.MethodPost, "/v1/c", `{"model":"y"}`).want(t, "one is down", 200, "two"+digest(`{"model":"y"}`))
}

// TestModelsOfAnEndpointThatIsOut checks that calls for its models get 503, not the 404 of a model that no endpoint
// has.
func TestModelsOfAnEndpointThatIsOut(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	p := startCaddy(t, edited("api", "api openai", []*api{one, two}, "key a\nmodel small tiny", "key b\nmodel large big"))
	if status, text, err := p.send(http.MethodPost, "/failover/pools/api/endpoints/one/drain", ""); err != nil || status != http.StatusOK {
		t.Fatal(status, text, err)
	}
	for model, want := range map[string]int{"small": http.StatusServiceUnavailable, "none": http.StatusNotFound, "large": http.StatusOK} {
		if got := p.call(http.MethodPost, "/c", `{"model":"`+model+`"}`); got.status != want {
			t.Errorf("a call for %s gets %d %s, want %d", model, got.status, got.body, want)
		}
	}
}
