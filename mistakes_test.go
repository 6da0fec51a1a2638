package failover

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/apifailover/caddy-failover/internal/call"
	"github.com/apifailover/caddy-failover/internal/endpoint"
	"github.com/apifailover/caddy-failover/internal/target"
)

// TestMistakesThatParse checks that values which parse and cannot be meant are errors with a cure.
func TestMistakesThatParse(t *testing.T) {
	within := func(lines string) string {
		return "api openai\nendpoint http://one:1 {\n" + lines + "\n}"
	}
	pool := func(lines string) string { return "endpoint http://one:1\n" + lines }
	for lines, want := range map[string]string{
		// Values that never come.
		within("key $SECRET"):                                `key: $SECRET is no variable of Caddy: write {env.SECRET}, at Caddyfile:4`,
		within("key {env:SECRET}"):                           `key: {env:SECRET} has no value: write {env.SECRET}, at Caddyfile:4`,
		within("key {file.secret}"):                          `is a part of the request's path: write the path of a file with a slash, as {file./run/secrets/secret}`,
		within("key {$NOT_SET_ANYWHERE}"):                    `key: the key is missing; is a variable that it should come from not set?, at Caddyfile:5`,
		within("key {header.X-Key}"):                         `key: a key belongs to the endpoint, and no client may set it`,
		within("key {http.request.cookie.key}"):              `key: a key belongs to the endpoint, and no client may set it`,
		within(`header X-Api-Key ${SECRET}`):                 `header X-Api-Key: ${SECRET} is no variable of Caddy: write {env.SECRET}, at Caddyfile:5`,
		within(`header Authorization "Bearer {Env.SECRET}"`): `header Authorization: {Env.SECRET} has no value: write {env.SECRET}, at Caddyfile:5`,
		within(`header X-User {headers.X-User}`):             `header X-User: {headers.X-User} has no value; did you mean {http.request.header.X-User}?, at Caddyfile:5`,
		within(`set_json user {cookies.user}`):               `set_json user: {cookies.user} has no value; did you mean {http.request.cookie.user}?, at Caddyfile:5`,
		pool("affinity {htp.request.host}"):                  `affinity: {htp.request.host} has no value; did you mean {http.request.host}?, at Caddyfile:4`,
		pool("scope {qeury.model}"):                          `scope: {qeury.model} has no value; did you mean {http.request.uri.query.model}?, at Caddyfile:4`,
		// Header fields that cannot be sent, and operations that undo each other.
		within(`header X-Key: value`):             `header X-Key:: leave out the colon, at Caddyfile:5`,
		within(`header "X Key" value`):            `header "X Key": want the name of a field, such as X-Api-Key, at Caddyfile:5`,
		within(`header + value`):                  `header: the name of the field is missing, at Caddyfile:5`,
		within(`header -`):                        `header: the name of the field is missing, at Caddyfile:5`,
		within("header X-Key \"a\nb\""):           `header X-Key: the value has a line break or another control character`,
		within(`header Content-Length 5`):         `header Content-Length: Caddy sets it itself; remove the option, at Caddyfile:5`,
		within("header X-Key a\nheader x-key b"):  `header x-key is given twice; write +x-key for each of several values, at Caddyfile:6`,
		within("header X-Key a\nheader +X-Key b"): `header X-Key: it is set and added to; write +X-Key for each value, at Caddyfile:6`,
		within("header X-Key a\nheader -X-Key"):   `header X-Key: it is set and removed; write one of them, at Caddyfile:6`,
		pool("health {\nheader X-Key: value\n}"):  `health: header X-Key:: leave out the colon, at Caddyfile:4`,
		// The same again.
		within("limit 5 requests per 1m\nlimit 6 requests per 60s"): `limit: requests per 1m0s are given twice, at Caddyfile:6`,
		within("set_json a 1\nset_json a 2"):                        `set_json a is given twice, at Caddyfile:6`,
		within("set_json a.b 1\nset_json a 2"):                      `set_json a replaces set_json a.b: swap them, at Caddyfile:6`,
		// Other forms of a value.
		pool("timeout 500 ms"):                        `want a duration such as 500ms or 1m30s; did you mean 500ms?, at Caddyfile:4`,
		pool("timeout 5sec"):                          `did you mean 5s?`,
		pool("timeout 1.5 minutes"):                   `did you mean 1.5m?`,
		pool("timeout 5 apples"):                      `invalid timeout "5": want a duration such as 500ms or 1m30s; did you mean 5s?`,
		pool("timeout 5s /slow"):                      `unexpected argument "/slow" of timeout; a matcher comes first: timeout /slow 5s, at Caddyfile:4`,
		pool("timeout slow/* 5s"):                     `timeout: invalid matcher "slow/*": want a path that begins with a slash, at Caddyfile:4`,
		pool("sla {\nwindow 30 days\n}"):              `did you mean 30d?`,
		pool("sla {\navailability 99.9\n}"):           `want 0% to 100%, or 0 to 1; did you mean 99.9%?, at Caddyfile:5`,
		pool("overflow 140%"):                         `did you mean 1.4?`,
		pool("retry 3"):                               `write retry { attempts 3 }, on lines of their own`,
		pool("retry {\nmethods GET,POST\n}"):          `retry: invalid method "GET,POST": separate methods by spaces`,
		pool("failure_status 500,502"):                `separate statuses by spaces, at Caddyfile:4`,
		pool("health GET /healthz"):                   `write health { uri /healthz; method GET }, on lines of their own, at Caddyfile:4`,
		pool("health {\nuri /\nmethod get\n}"):        `health: invalid method "get": want one method, such as GET`,
		pool("all_down 5s"):                           `all_down 5s: write all_down wait 5s, or fail_fast or try_anyway, at Caddyfile:4`,
		pool("affinity ip_hash"):                      `did you mean client_ip?`,
		pool("affinity header X-User"):                `affinity header: write affinity {header.X-User}, at Caddyfile:4`,
		pool("api claude"):                            `did you mean anthropic?`,
		within("tls_insecure_skip_verify"):            `unknown option tls_insecure_skip_verify of endpoint; it is an option of the proxy, in a block transport http`,
		within("max_fails 3"):                         `it is an option of the proxy, outside the block endpoint`,
		within("backup"):                              `did you mean priority?`,
		within("health /x"):                           `write health GET /x, at Caddyfile:5`,
		pool("dial_timeout 2s"):                       `it is an option of the proxy, in a block transport http`,
		pool("retries 3"):                             `did you mean attempts, in the block retry?`,
		within("limit 5 requests per minute"):         `did you mean 1m?`,
		within("schedule 0 3 * * SUN 2h {\ndrain\n}"): `schedule: write the five fields of the expression in quotes, as in schedule "0 3 * * SUN" 2h`,
		within("set_json model = x"):                  `set_json model: want optional, not "x"; leave out the =, at Caddyfile:5`,
		within(`set_json a {"b": 1}`):                 `write JSON with spaces in backquotes, at Caddyfile:5`,
	} {
		got := adaptError(":80 {\nfailover {\n" + lines + "\n}\n}\n")
		if !strings.Contains(got, want) {
			t.Errorf("%s: got %q, want %q", lines, got, want)
		}
	}
	policy := ":80 {\nreverse_proxy https://one {\nlb_policy failover {\nupstream https://one\n}\n}\n}\n"
	if got, want := adaptError(policy), "upstream https://one: write upstream one:443, as the proxy calls it, and url https://one in its block, at Caddyfile:4"; !strings.Contains(got, want) {
		t.Errorf("a URL of an upstream: got %q, want %q", got, want)
	}
}

// TestPlausibleValuesAreNoMistakes checks that values which only look like mistakes are accepted.
func TestPlausibleValuesAreNoMistakes(t *testing.T) {
	for _, lines := range []string{
		`header Authorization "Bearer {header.X-My-Key}"`,
		"header +X-Key a\nheader +X-Key b",
		"header -X-Key-*\nheader X-Key-1 a",
		"header {header.X-Name} value",
		"header X-Price $5",
		"header X-Key {secrets.key}",
		"key {vault.path:key}",
		"limit 5 requests per 1m\nlimit 100 requests per 1h\nlimit 100 tokens per 1m",
		"set_json a 0\nset_json a.b 1\nset_json ab 2",
		`set_json a {"header.x":1}`,
		"set_json file {file.base}",
		`header X-Template \{headers.x\}`,
		"set_json time {time.now.unix}",
	} {
		if got := adaptError(":80 {\nfailover {\napi openai\nendpoint http://one:1 {\n" + lines + "\n}\n}\n}\n"); got != "" {
			t.Errorf("%s: got %q", lines, got)
		}
	}
}

// TestMistakesInJSON checks that a JSON configuration with such values is refused, too.
func TestMistakesInJSON(t *testing.T) {
	for policy, want := range map[string]string{
		`"api": "openai", "endpoints": [{"upstream": "one:1", "keys": ["{http.request.header.X-Key}"]}]`:                             "no client may set it",
		`"api": "openai", "endpoints": [{"upstream": "one:1", "keys": ["{ENV.KEY}"]}]`:                                               "{ENV.KEY} has no value: write {env.KEY}",
		`"endpoints": [{"upstream": "one:1", "headers": {"set": {"X-User": ["{header.X-User}"]}}}]`:                                  "{header.X-User} has no value: write {http.request.header.X-User}",
		`"endpoints": [{"upstream": "one:1", "headers": {"set": {"X User": ["me"]}}}]`:                                               `header "X User": want the name of a field`,
		`"endpoints": [{"upstream": "one:1", "headers": {"set": {"X-User": ["me"]}, "delete": ["x-user"]}}]`:                         "it is set and removed",
		`"endpoints": [{"upstream": "one:1", "limits": [{"amount": 1, "per": "1s"}, {"amount": 2, "per": "1s", "of": "requests"}]}]`: "requests per 1s are given twice",
		`"endpoints": [{"upstream": "one:1", "set_json": [{"path": "a", "value": 1}, {"path": "a", "value": 2}]}]`:                   "set_json a is given twice",
		`"affinity": [{"by": "text", "value": "{query.user}"}]`:                                                                      "{query.user} has no value: write {http.request.uri.query.user}",
		`"retry": {"off": true, "attempts": 2}`:                                                                                      "retry: remove off, or the other options, which have no effect",
		`"breaker": {"off": true, "step": "1s"}`:                                                                                     "breaker: remove off, or the other options, which have no effect",
		`"health": {"off": true, "uri": "/x"}`:                                                                                       "health: remove off, or the other options, which have no effect",
		`"timeout": 5`:                                                                                                               `timeout is only 5ns; write a unit, as in "5s"`,
		`"breaker": {"open_for": 60000}`:                                                                                             `breaker.open_for is only 60µs; write a unit`,
		`"endpoints": [{"upstream": "one:1", "limits": [{"amount": 600, "per": 60}]}]`:                                               `endpoints[0].limits[0].per is only 60ns; write a unit`,
		`"endpoints": [null]`: `endpoints[0]: want an object, not null`,
		`"endpoints": [{"upstream": "one:1", "limits": [null]}]`:   `endpoints[0].limits[0]: want an object, not null`,
		`"endpoints": [{"upstream": "one:1", "timeouts": [null]}]`: `endpoints[0].timeouts[0]: want an object, not null`,
		`"affinity": [{"by": "client_ip"}, null]`:                  `affinity[1]: want an object, not null`,
		`"next_on": [null]`: `next_on[0]: want an object, not null`,
		`"endpoints": [{"upstream": "one:1", "prioriy": 1}]`:              `unknown field "prioriy"; did you mean priority?`,
		`"endpoints": [{"upstream": "one:1", "headers": {"X-A": ["b"]}}]`: `unknown field "X-A"; a header field stands in set, add or delete`,
		`"endpoints": [{"upstream": "one:1", "weight": "3"}]`:             `endpoints.weight: want a number: json: cannot unmarshal string`,
		`"retry": "off"`:                       `retry: want an object: json: cannot unmarshal string`,
		`"timeout": "5"`:                       `missing unit in duration "5"; want a duration such as "500ms" or "1m30s"`,
		`"health": {"headers": {"X:": ["1"]}}`: "health: header X:: leave out the colon",
	} {
		config := fmt.Sprintf(`{"upstreams": [{"dial": "one:1"}], "load_balancing": {"selection_policy": {"policy": "failover", %s}}}`, policy)
		_, end, err := provisioned(t, []byte(config))
		if err == nil {
			end()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", policy, err, want)
		}
	}
}

// TestDoubledPaths checks for which matchers an endpoint gets the path of its base URL twice.
func TestDoubledPaths(t *testing.T) {
	p := &Policy{Endpoints: []*Endpoint{{URL: "https://one/v1/"}, {URL: "https://two"}}}
	for path, want := range map[string]int{"/v1/*": 1, "/v1*": 1, "/v1": 1, "/v1/chat/*": 1, "/v1beta/*": 0, "/*": 0, "*": 0, "/v": 0} {
		raw, _ := json.Marshal([]string{path})
		if got := len(p.doubled(caddy.ModuleMap{"path": raw})); got != want {
			t.Errorf("%s: %d endpoints, want %d", path, got, want)
		}
	}
	if got := p.doubled(caddy.ModuleMap{"host": []byte(`["x"]`)}); len(got) > 0 {
		t.Errorf("no path: %d endpoints", len(got))
	}
}

// TestWarningsOfTimesAndRoutes checks which deadlines, hedges and handle_response blocks are warned of.
func TestWarningsOfTimesAndRoutes(t *testing.T) {
	two := []*target.Target{{Name: "one", Timeout: time.Minute}, {Name: "two", Timeout: time.Second}}
	for _, test := range []struct {
		name    string
		retry   call.RetryRules
		targets []*target.Target
		replies []caddyhttp.ResponseHandler
		want    string
	}{
		{name: "a deadline before the timeout", retry: call.RetryRules{Attempts: 3, Deadline: time.Second}, targets: two, want: "make timeout shorter than retry deadline"},
		{name: "a deadline after it", retry: call.RetryRules{Attempts: 3, Deadline: time.Hour}, targets: two},
		{name: "no deadline", retry: call.RetryRules{Attempts: 3}, targets: two},
		{name: "no retries", retry: call.RetryRules{Attempts: 1, Deadline: time.Second}, targets: two},
		{name: "one endpoint", retry: call.RetryRules{Attempts: 3, Deadline: time.Second}, targets: two[:1]},
		{name: "a hedge", retry: call.RetryRules{Attempts: 3, Deadline: time.Second, Hedge: new(call.HedgeRules)}, targets: two},
		{name: "a hedge at one endpoint", retry: call.RetryRules{Attempts: 3, Hedge: new(call.HedgeRules)}, targets: two[:1], want: "hedge has no effect"},
		{name: "no routes", targets: two, replies: make([]caddyhttp.ResponseHandler, 1), want: "handle_response has no routes"},
		{name: "another status", targets: two, replies: []caddyhttp.ResponseHandler{{StatusCode: "500"}}},
		{name: "routes", targets: two, replies: []caddyhttp.ResponseHandler{{Routes: make(caddyhttp.RouteList, 1)}}},
	} {
		core, logs := observer.New(zap.WarnLevel)
		p := &Policy{handler: new(call.Handler)}
		p.handler.Logger, p.handler.Retry, p.handler.Targets = zap.New(core), test.retry, test.targets
		p.warnOfTimes()
		p.warnOfEmptyRoutes(&reverseproxy.Handler{HandleResponse: test.replies})
		var got []string
		for _, entry := range logs.All() {
			got = append(got, entry.Message)
		}
		if all := strings.Join(got, "\n"); !strings.Contains(all, test.want) || test.want == "" && all != "" {
			t.Errorf("%s: got %q, want %q", test.name, all, test.want)
		}
	}
}

// TestChecksOfDoubledPathsAreWarnedOf checks which URIs of health checks repeat the path of the base URL.
func TestChecksOfDoubledPathsAreWarnedOf(t *testing.T) {
	base := &url.URL{Scheme: "https", Host: "one", Path: "/v1"}
	for _, test := range []struct {
		uri, own string
		want     int
	}{
		{"/v1/health", "", 1}, {"/v1?deep", "", 1}, {"/health", "", 0}, {"/v1beta", "", 0}, {"", "", 0}, {"/health", "/v1/x", 1}, {"/v1/health", "/x", 0},
	} {
		core, logs := observer.New(zap.WarnLevel)
		p := &Policy{Health: &Health{URI: test.uri}, handler: new(call.Handler)}
		p.handler.Logger = zap.New(core)
		p.handler.Targets = []*target.Target{{Name: "one", URL: base, Health: &endpoint.CheckOverride{Uri: test.own}}, {Name: "two"}}
		if p.warnOfChecks(); logs.Len() != test.want {
			t.Errorf("%q, own %q: %d warnings, want %d", test.uri, test.own, logs.Len(), test.want)
		}
	}
}

// TestCredentialsOfClientsAreTheirQuota checks that a status about credentials that an endpoint takes from
// the request does not count against the endpoint.
func TestCredentialsOfClientsAreTheirQuota(t *testing.T) {
	for value, want := range map[string]bool{"Bearer sk-1": true, "Bearer {env.KEY}": true, "Bearer {http.vars.key}": true, "Bearer {http.request.header.X-Key}": false} {
		var e Endpoint
		if err := json.Unmarshal(fmt.Appendf(nil, `{"upstream": "one:1", "headers": {"set": {"Authorization": [%q]}}}`, value), &e); err != nil {
			t.Fatal(err)
		}
		if got := new(Policy).newTarget(&e, 1); got.Quota != want || !got.Own {
			t.Errorf("%s: the endpoint's quota: %v, want %v; own: %v", value, got.Quota, want, got.Own)
		}
	}
}
