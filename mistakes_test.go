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
		within("schedule @dayly 1h {\ndrain\n}"):      `did you mean @daily?, at Caddyfile:5`,
		within("schedule @daily 2hours {\ndrain\n}"):  `invalid schedule "2hours": want a duration such as 500ms or 1m30s; did you mean 2h?`,
		within("limit 600/1m"):                        `write limit <n> requests|tokens per <duration> [burst <n>], at Caddyfile:5`,
		within("weight 1,5"):                          `invalid weight "1,5": want a number; did you mean 1.5?`,
		pool("sla {\navailability 99,9%\n}"):          `did you mean 99.9%?`,
		pool("sla 99.9%"):                             `write sla { availability 99.9% }, on lines of their own, at Caddyfile:4`,
		pool("retry {\nhedge 0.95\n}"):                `did you mean p95?`,
		pool("retry {\nbackoff 100 2000\n}"):          `did you mean 100ms?`,
		pool("retry {\nmethods PSOT\n}"):              `retry: unknown method "PSOT"; did you mean POST?`,
		pool("health {\nmethod GTE\n}"):               `health: unknown method "GTE"; did you mean GET?`,
		pool("retry attempts 3"):                      `write retry { attempts ... }, on lines of their own`,
		pool("health uri /x"):                         `write health { uri /x }, on lines of their own`,
		pool("commit complete 1 MB"):                  `invalid commit size "1": write 1MB, without a space, at Caddyfile:4`,
		pool("idle_timeout off"):                      `leave the option out to turn it off`,
		pool("balance round_robin"):                   `did you mean weighted?`,
		pool("name my pool"):                          `write a name with spaces in quotes`,
		pool("next_on 400 404"):                       `next_on 400 404: 404 is a regular expression there; write each status on its own line`,
		pool("answer 200 5xx as failure"):             `5xx is a regular expression there`,
		// Options that have no effect, or have it in another place.
		pool("next_on 400 {\nbody x\n}"):                              `unexpected "body": next_on has no block, at Caddyfile:5`,
		pool("balance weighted {\nx\n}"):                              `unexpected "x": balance has no block, at Caddyfile:5`,
		within("weight 1 {\nx\n}"):                                    `unexpected "x": weight has no block, at Caddyfile:6`,
		pool("answer 200 json a as failure\nanswer 200 json a as ok"): `answer 200: the same responses are given twice, and only the first line counts; remove one, at Caddyfile:5`,
		pool("next_on 400 x\nnext_on 400 x"):                          `next_on 400 x is given twice; remove one, at Caddyfile:5`,
		within("set_json Model a\nset_json model b"):                  `set_json model is given twice, at Caddyfile:6`,
		pool("buffer 1MiB"):                                           `it is an option of the block retry`,
		pool("interval 5s"):                                           `it is an option of the block health`,
		pool("retry {\ntimeout 5s\n}"):                                `it is an option of an endpoint, the pool or the block health`,
		pool("max_attempts 3"):                                        `unknown option max_attempts of failover; did you mean attempts, in the block retry?`,
		pool("connect_timeout 2s"):                                    `did you mean dial_timeout, in a block transport http?`,
		pool("circuit_breaker {\n}"):                                  `did you mean breaker?`,
		pool("cooldown 5s"):                                           `did you mean open_for, in the block breaker?`,
		pool("fallback http://two"):                                   `did you mean endpoint?`,
		within("retries 2"):                                           `did you mean attempts, in the block retry?`,
		pool("sla availability 99.9%"):                                `write sla { availability 99.9% }, on lines of their own`,
		within("health /x GET"):                                       `the method comes first; write health GET /x, at Caddyfile:5`,
		within("key Bearer"):                                          `key: leave Bearer out`,
		within("key k1,k2"):                                           `key: the key has a comma; write each further key on its own line`,
		pool("memory 1MiB"):                                           `it is an option of the block failover of the global options`,
		within("drain"):                                               `it is an option of the block schedule`,
		pool("reverse_proxy one:1"):                                   `write endpoint <base-url> for each upstream, at Caddyfile:4`,
		// Placeholders that have no value there.
		within("key {env.SECRET"):               `{env.SECRET is no placeholder: write it in one pair of braces, as {env.NAME}`,
		within("key {{env.SECRET}}"):            `{{env.SECRET}} is no placeholder`,
		within("name {env.NAME}"):               `invalid name "{env.NAME}": placeholders have no value there; write {$NAME}`,
		within("model {env.MODEL}"):             `invalid model "{env.MODEL}": placeholders have no value there; write {$MODEL}`,
		within("weight {env.WEIGHT}"):           `want a number; write {$WEIGHT}, which Caddy replaces when it reads the Caddyfile`,
		pool("timeout {env.TIME}"):              `want a duration such as 500ms or 1m30s; write {$TIME}`,
		pool("commit {env.COMMIT}"):             `write {$COMMIT}`,
		pool("affinity {env.REGION}"):           `affinity "{env.REGION}" is the same for all requests`,
		pool("scope a-{env.REGION}"):            `scope "a-{env.REGION}" is the same for all requests`,
		pool("affinity cookie session $SECRET"): `affinity: $SECRET is no variable of Caddy: write {env.SECRET}`,
		pool("health {\nuri {env.CHECK}\n}"):    `invalid uri "{env.CHECK}": placeholders have no value there`,
		"endpoint $API_URL":                     `invalid address of an endpoint: $API_URL is no variable of Caddy: write {env.API_URL}, at Caddyfile:3`,
		"endpoint {env:API_URL}":                `invalid address of an endpoint: {env:API_URL} has no value: write {env.API_URL}`,
		// Base URLs and addresses that are copied or typed wrong.
		`endpoint " https://one"`:           `base URL " https://one" has a " ": remove it, at Caddyfile:3`,
		`endpoint "https://one/a b"`:        `remove it; a space of a path is %20`,
		"endpoint “https://one”":            `is in quotation marks: remove them, at Caddyfile:3`,
		"endpoint 'https://one?key=sEcReT'": `base URL "'https://one" is in quotation marks: remove them, at Caddyfile:3`,
		"endpoint <https://one>":            `has a "<": remove it`,
		"endpoint https//one/v1":            `malformed base URL https//one/v1: write https://one/v1, at Caddyfile:3`,
		`endpoint https:\\one`:              `write https://one, at Caddyfile:3`,
		"endpoint https：//one":              `write https://one, at Caddyfile:3`,
		"endpoint https://https://one":      `it has two schemes; remove one`,
		"endpoint wss://one":                `the scheme must be http or https; write https, which carries websockets too`,
		"endpoint http://::1:8080":          `an IPv6 address stands in brackets, as in http://[::1]:8080`,
		"endpoint http://256.1.1.1":         `256.1.1.1 is not an IP address`,
		"endpoint https://one..example":     `the host "one..example" has an empty part`,
		"endpoint https://one;":             `the host has a ";"`,
		"endpoint https://one\u200b":        `the host has a "\u200b"`,
		"endpoint *":                        `invalid address of an endpoint: "*": the host has a "*"`,
		"endpoint one:0":                    `"one:0": the port must be from 1 to 65535`,
		"endpoint unix/":                    `the path of the socket is missing`,
	} {
		got := adaptError(":80 {\nfailover {\n" + lines + "\n}\n}\n")
		if !strings.Contains(got, want) {
			t.Errorf("%s: got %q, want %q", lines, got, want)
		}
	}
	for line, want := range map[string]string{
		"failover v1/* {":        `unexpected "v1/*": a path matcher begins with a slash, as in /v1/*, at Caddyfile:2`,
		"failover /v1/* /v2/* {": `the directive takes one path; write a named matcher for several, as in @api path /v1/* /v2/*, at Caddyfile:2`,
		"failover @nobody {":     `unrecognized matcher name: @nobody, at Caddyfile:2`,
	} {
		if got := adaptError(":80 {\n" + line + "\nendpoint http://one:1\n}\n}\n"); !strings.Contains(got, want) {
			t.Errorf("%s: got %q, want %q", line, got, want)
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
		"set_json a {env.A}",
		"weight 1 {\n}",
		"}\nendpoint :8080 {",
		"}\nendpoint unix//run/one.sock {",
		"}\nendpoint {header.X-Endpoint} {",
		"}\nendpoint my_service:8080 {",
		"}\nendpoint http://[fe80::1%25eth0]:80/v1/ {",
		"}\nendpoint https://one.example.:8443/v1;x=1 {",
		"}\nendpoint https://one.example/it's {",
		"}\nnext_on 400 (404)\nanswer 200 json code 429 as held\nendpoint http://two:1 {",
		"}\nretry {\nmethods PROPFIND COPY REPORT QUERY\n}\nendpoint http://two:1 {",
		"}\nhealth {\nbody {env.CHECK}\n}\nendpoint http://two:1 {",
	} {
		if got := adaptError(":80 {\nfailover {\napi openai\nendpoint http://one:1 {\n" + lines + "\n}\n}\n}\n"); got != "" {
			t.Errorf("%s: got %q", lines, got)
		}
	}
}

// TestHostsAreDialedAsDNSHasThem checks that the address of an endpoint is ASCII.
func TestHostsAreDialedAsDNSHasThem(t *testing.T) {
	for endpoint, want := range map[string]string{
		"https://bücher.example/v1": `"upstreams":[{"dial":"xn--bcher-kva.example:443"}]`,
		"http://例子.example:81":      `"upstreams":[{"dial":"xn--fsqu00a.example:81"}]`,
		"bücher.example:80":         `"upstreams":[{"dial":"xn--bcher-kva.example:80"}]`,
		"https://One.example":       `"upstreams":[{"dial":"One.example:443"}]`,
	} {
		if got := string(adapt(t, ":80 {\nfailover {\nendpoint "+endpoint+"\n}\n}\n")); !strings.Contains(got, want) {
			t.Errorf("%s: got %s, want %s in it", endpoint, got, want)
		}
	}
	if u, err := parseBaseURL("https://u:p@bücher.example:8443/v1"); err != nil || u.Host != "xn--bcher-kva.example:8443" {
		t.Errorf("got %v, %v", u, err)
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
