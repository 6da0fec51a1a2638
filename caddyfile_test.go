package failover

import (
	"bytes"
	"encoding/json"
	"flag"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// adaptError returns the error of adapting a Caddyfile; "" if there is none.
func adaptError(text string) string {
	_, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(text), map[string]any{"filename": "Caddyfile"})
	if err == nil {
		return ""
	}
	return err.Error()
}

// TestBadCaddyfiles checks that each mistake is an error that names file, line and the wrong word. A
// site begins on line 1, so a directive begins on line 2.
func TestBadCaddyfiles(t *testing.T) {
	const one = "endpoint http://one:1"
	directive := func(lines ...string) string {
		return ":80 {\nfailover {\n" + strings.Join(lines, "\n") + "\n}\n}\n"
	}
	policy := func(lines ...string) string {
		return ":80 {\nreverse_proxy one:1 {\nlb_policy failover {\n" + strings.Join(lines, "\n") + "\n}\n}\n}\n"
	}
	for _, test := range []struct{ name, input, want string }{
		{"no endpoint", directive("name x"), `failover needs at least one endpoint, at Caddyfile:2`},
		{"an argument", ":80 {\nfailover http://one:1\n}\n", `unexpected "http://one:1": write each endpoint in the block, as endpoint <base-url>, at Caddyfile:2`},
		{"a bad scheme", directive("endpoint ftp://one"), `base URL ftp://one: the scheme must be http or https, at Caddyfile:3`},
		{"no host", directive("endpoint https:///v1"), `base URL https:///v1: the host is missing, at Caddyfile:3`},
		{"a query", directive("endpoint https://one/?key=1"), `base URL https://one/: a query is not allowed, at Caddyfile:3`},
		{"a fragment", directive("endpoint https://one/#x"), `base URL https://one/: a fragment is not allowed, at Caddyfile:3`},
		{"a bad port", directive("endpoint https://one:port"), `parsing base URL: parse "https://one:port": invalid port ":port" after host, at Caddyfile:3`},
		{"a port too large", directive("endpoint https://one:90011/v1"), `base URL https://one:90011/v1: the port must be from 1 to 65535, at Caddyfile:3`},
		{"port 0", directive("endpoint https://one:0"), `base URL https://one:0: the port must be from 1 to 65535, at Caddyfile:3`},
		{"an address with a port too large", directive("endpoint one:90011"), `invalid address of an endpoint: "one:90011": want a base URL or host:port, at Caddyfile:3`},
		{"two hosts", directive("endpoint https://one,https://two"), `base URL https://one,https://two: the host has a ","; write each endpoint on its own line, at Caddyfile:3`},
		{"a wildcard", directive("endpoint https://*.one.example"), `base URL https://*.one.example: the host has a "*"; write the name of one host, at Caddyfile:3`},
		{"a brace without a space", directive("endpoint https://one{", "weight 2", "}"), `base URL https://one{: write a space before the {, at Caddyfile:3`},
		{"a brace without a space after a path", directive("endpoint https://one/v1{", "weight 2", "}"), `base URL https://one/v1{: write a space before the {, at Caddyfile:3`},
		{"a host of the request", directive("endpoint https://{host}/v1"), `base URL https://{http.request.host}/v1: {http.request.host} has no value when Caddy loads the configuration; only {env.*} and {file.*} have one, at Caddyfile:3`},
		{"a path of the request", directive("endpoint https://one{path}"), `base URL https://one{http.request.uri.path}: {http.request.uri.path} has no value when Caddy loads the configuration; only {env.*} and {file.*} have one, and the path of a request follows the base URL anyway, at Caddyfile:3`},
		{"a path and the request's", directive("endpoint https://one/v1{uri}"), `base URL https://one/v1{http.request.uri}: {http.request.uri} has no value when Caddy loads the configuration; only {env.*} and {file.*} have one, and the path of a request follows the base URL anyway, at Caddyfile:3`},
		{"a socket as a URL", directive("endpoint http://unix//run/api.sock"), `base URL http://unix//run/api.sock: a socket has no scheme; write unix//run/api.sock, at Caddyfile:3`},
		{"a path alone", directive("endpoint /v1"), `invalid address of an endpoint: "/v1" is a path: want a base URL such as https://api.example/v1, or host:port, at Caddyfile:3`},
		{"a range of ports", directive("endpoint one:8080-8082"), `invalid address of an endpoint: "one:8080-8082" has several ports; write each endpoint on its own line, at Caddyfile:3`},
		{"timeout twice for a path", directive(one, "timeout /x 1s", "timeout /y 1s", "timeout /x 2s"), `option timeout is given twice for /x, at Caddyfile:6`},
		{"a breaker that is off and has a block", directive(one, "breaker off {", "start 5%", "}"), `breaker off: remove off, or the block, which has no effect, at Caddyfile:5`},
		{"retries that are off and have a block", directive(one, "retry off {", "attempts 2", "}"), `retry off: remove off, or the block, which has no effect, at Caddyfile:5`},
		{"checks that are off and have a block", directive(one, "health off {", "uri /x", "}"), `health off: remove off, or the block, which has no effect, at Caddyfile:5`},
		{"a backoff whose cap is less", directive(one, "retry {\nbackoff 5s 1s\n}"), `retry: backoff: the cap (1s) must not be shorter than the base (5s), at Caddyfile:4`},
		{"an affinity with half a placeholder", directive(one, "affinity {header.X-Session"), `affinity "{header.X-Session" is the same for all requests: want a placeholder, json <path>, client_ip or cookie, at Caddyfile:4`},
		{"a scope with half a placeholder", directive(one, "scope {path.0"), `scope "{path.0" is the same for all requests: want a placeholder, json <path> (such as json model), path_model, grpc_service or off, at Caddyfile:4`},
		{"an option on the line of its endpoint", directive("endpoint https://one priority 1"), `unexpected argument "priority" of an endpoint: it is an option, which belongs into the endpoint's block, at Caddyfile:3`},
		{"a hedge that is no quantile", directive(one, "retry {\nhedge 95p\n}"), `invalid hedge "95p": want a duration such as 50ms, or a quantile of the usual latency such as p95, at Caddyfile:5`},
		{"a duration without a unit", directive(one, "timeout 2"), `invalid timeout "2": want a duration such as 500ms or 1m30s; did you mean 2s?, at Caddyfile:4`},
		{"the path of a health check", directive(one, "health /healthz"), `health /healthz: want off or a block, or grpc [<service>]; write health { uri /healthz }, on lines of their own, at Caddyfile:4`},
		{"all of the requests as an objective", directive(one, "sla {\navailability 100%\n}"), `sla: availability 1: must be at least 0 and under 1, as in 99.9%, at Caddyfile:4`},
		{"no URL", directive("endpoint"), `a value is missing after endpoint, at Caddyfile:3`},
		{"two URLs", directive("endpoint https://one https://two"), `unexpected argument "https://two" of an endpoint, at Caddyfile:3`},
		{"a bad address", directive("endpoint one:1:2"), `invalid address of an endpoint: "one:1:2": want a base URL or host:port, at Caddyfile:3`},
		{"upstream in the directive", directive("upstream one:1"), `unknown option upstream: the failover directive has endpoint <base-url>, at Caddyfile:3`},
		{"url in the directive", directive("endpoint http://one {\nurl http://two\n}"), `unknown option url of endpoint, at Caddyfile:4`},
		{"a name twice", directive("endpoint http://one {\nname x\n}", "endpoint http://two {\nname x\n}"), `the name "x" is used twice, first by the endpoint of line 3; give each its own name, at Caddyfile:6`},
		{"a URL twice", directive(one, one), `the name "one:1" is used twice, first by the endpoint of line 3; give each its own name, at Caddyfile:4`},
		{"an address twice", policy("upstream one:1", "upstream one:1"), `the name "one:1" is used twice, first by the upstream of line 4; give each its own name, at Caddyfile:5`},
		{"lb_policy", directive(one, "lb_policy random 2"), `lb_policy random 2: the policy of a failover directive is failover, at Caddyfile:4`},
		{"endpoint in the policy", policy("endpoint http://one"), `unknown option endpoint of lb_policy failover: it has upstream <address>, and the failover directive has endpoint <base-url>, at Caddyfile:4`},
		{"an argument of the policy", ":80 {\nreverse_proxy one:1 {\nlb_policy failover x\n}\n}\n", `unexpected argument "x" of the failover policy, at Caddyfile:3`},
		{"unknown option of the directive", directive(one, "balanec weighted"), `unknown option balanec of failover; did you mean balance?, at Caddyfile:4`},
		{"unknown option of the policy", policy("balanec weighted"), `unknown option balanec of failover; did you mean balance?, at Caddyfile:4`},
		{"unknown option of an endpoint", directive("endpoint http://one {\nwieght 1\n}"), `unknown option wieght of endpoint; did you mean weight?, at Caddyfile:4`},
		{"unknown option of an upstream", policy("upstream one:1 {\nwieght 1\n}"), `unknown option wieght of upstream; did you mean weight?, at Caddyfile:5`},
		{"unknown option of the breaker", directive(one, "breaker {\nopen_for 1s\nclosed_for 1s\n}"), `unknown option closed_for of breaker, at Caddyfile:6`},
		{"unknown option of retry", directive(one, "retry {\ntries 1\n}"), `unknown option tries of retry, at Caddyfile:5`},
		{"an option twice", directive(one, "balance weighted", "balance least_latency"), `option balance is given twice, first on line 4, at Caddyfile:5`},
		{"an option of an endpoint twice", directive("endpoint http://one {\nweight 1\nweight 2\n}"), `option weight is given twice, first on line 4, at Caddyfile:5`},
		{"an option of the breaker twice", directive(one, "breaker {\nstep 1s\nstep 1s\n}"), `option step is given twice, first on line 5, at Caddyfile:6`},
		{"an option of retry twice", directive(one, "retry {\nattempts 1\nattempts 2\n}"), `option attempts is given twice, first on line 5, at Caddyfile:6`},
		{"breaker twice", directive(one, "breaker off", "breaker {\nstep 1s\n}"), `option breaker is given twice, first on line 4, at Caddyfile:5`},
		{"timeout twice", directive(one, "timeout 1s", "timeout 2s"), `option timeout is given twice for all requests, at Caddyfile:5`},
		{"timeout twice with a star", directive(one, "timeout * 1s", "timeout 2s"), `option timeout is given twice for all requests, at Caddyfile:5`},
		{"an argument too many", directive(one, "balance weighted twice"), `unexpected argument "twice" of balance, at Caddyfile:4`},
		{"an argument missing", directive(one, "balance"), `a value is missing after balance, at Caddyfile:4`},
		{"an affinity of all requests", directive(one, "affinity user"), `affinity "user" is the same for all requests: want a placeholder, json <path>, client_ip or cookie, at Caddyfile:4`},
		{"an affinity without a path", directive(one, "affinity json"), `a value is missing after json, at Caddyfile:4`},
		{"an affinity to a query", directive(one, "affinity json users.#"), `affinity json users.#: path: '#' is a wildcard or a query, which a path cannot have; as a character of a name it is written \#, at Caddyfile:4`},
		{"a cookie of no name", directive(one, `affinity cookie "a b"`), `affinity: "a b" is not a valid cookie name, at Caddyfile:4`},
		{"an affinity with too much", directive(one, "affinity client_ip x"), `unexpected argument "x" of affinity, at Caddyfile:4`},
		{"a scope of all requests", directive(one, "scope model"), `scope "model" is the same for all requests: want a placeholder, json <path> (such as json model), path_model, grpc_service or off, at Caddyfile:4`},
		{"a scope that is misspelt", directive(one, "scope grpc_servcie"), `scope "grpc_servcie" is the same for all requests: want a placeholder, json <path> (such as json model), path_model, grpc_service or off; did you mean grpc_service?, at Caddyfile:4`},
		{"a scope without a path", directive(one, "scope json"), `a value is missing after json, at Caddyfile:4`},
		{"a scope of a query", directive(one, "scope json a.#"), `scope json a.#: path: '#' is a wildcard or a query, which a path cannot have; as a character of a name it is written \#, at Caddyfile:4`},
		{"a scope twice", directive(one, "scope off", "scope json model"), `option scope is given twice, first on line 4, at Caddyfile:5`},
		{"a scope with too much", directive(one, "scope off x"), `unexpected argument "x" of scope, at Caddyfile:4`},
		{"a limit of nothing", directive("endpoint http://one.example {\n\t\tlimit 0 requests per 1m\n\t}"), `invalid limit "0": want a whole number of 1 or more, at Caddyfile:4`},
		{"a limit of something else", directive("endpoint http://one.example {\n\t\tlimit 5 calls per 1m\n\t}"), `limit: want limit <n> requests|tokens per <duration> [burst <n>]: requests or tokens, not "calls", at Caddyfile:4`},
		{"a limit of tokens, misspelled", directive("endpoint http://one.example {\n\t\tlimit 5 tokns per 1m\n\t}"), `limit: want limit <n> requests|tokens per <duration> [burst <n>]: requests or tokens, not "tokns"; did you mean tokens?, at Caddyfile:4`},
		{"tokens of an API that has none", directive("api jsonrpc\n\tendpoint http://one.example {\n\t\tlimit 5 tokens per 1m\n\t}"), `limit: requests of api jsonrpc use no tokens, at Caddyfile:4`},
		{"a limit without a time", directive("endpoint http://one.example {\n\t\tlimit 5 requests per\n\t}"), `a value is missing after per, at Caddyfile:4`},
		{"a limit with a bad burst", directive("endpoint http://one.example {\n\t\tlimit 5 requests per 1m burst 0\n\t}"), `invalid burst "0": want a whole number of 1 or more, at Caddyfile:4`},
		{"a schedule that does nothing", directive("endpoint http://one.example {\n\t\tschedule @daily 1h {\n\t\t}\n\t}"), `schedule: want drain, a weight or a priority, at Caddyfile:4`},
		{"a schedule with a bad expression", directive("endpoint http://one.example {\n\t\tschedule \"0 3 * *\" 1h {\n\t\t\tdrain\n\t\t}\n\t}"), `schedule: "0 3 * *": expected exactly 5 fields, found 4: [0 3 * *], at Caddyfile:4`},
		{"a schedule in no zone", directive("endpoint http://one.example {\n\t\tschedule @daily 1h {\n\t\t\tdrain\n\t\t\tzone Mars\n\t\t}\n\t}"), `schedule: zone "Mars": want a name of the IANA time zone database, as Europe/Berlin: unknown time zone Mars, at Caddyfile:4`},
		{"a schedule that contradicts itself", directive("endpoint http://one.example {\n\t\tschedule @daily 1h {\n\t\t\tdrain\n\t\t\tweight 2\n\t\t}\n\t}"), `schedule: drain cannot be combined with a weight or a priority, at Caddyfile:4`},
		{"a word that is no choice", directive(one, "balance random"), `balance must be weighted, least_latency or least_requests, not "random", at Caddyfile:4`},
		{"an unknown api", directive(one, "api openia"), `api must be openai, anthropic, gemini, jsonrpc or grpc, not "openia"; did you mean openai?, at Caddyfile:4`},
		{"a key without an api", directive("endpoint http://one {\nkey sEcReT\n}"), `key needs the pool's api, which sets how keys are sent: give the pool api openai|anthropic|gemini|jsonrpc|grpc, or the endpoint header Authorization "Bearer <key>" instead, at Caddyfile:3`},
		{"a key without an api in the policy", policy("upstream one:1 {\nkey sEcReT\n}"), `key needs the pool's api, which sets how keys are sent: give the pool api openai|anthropic|gemini|jsonrpc|grpc, or the endpoint header Authorization "Bearer <key>" instead, at Caddyfile:4`},
		{"a key and its header", directive("api anthropic", "endpoint http://one {\nkey sEcReT\nheader x-api-key other\n}"), `key sets X-Api-Key, and so does header: remove one of them, at Caddyfile:4`},
		{"a key whose header is removed", directive("api openai", "endpoint http://one {\nkey sEcReT\nheader -Authorization\n}"), `key sets Authorization, and so does header: remove one of them, at Caddyfile:4`},
		{"a key and a password", directive("api openai", "endpoint http://me:sEcReT@one {\nkey sEcReT\n}"), `key sets Authorization, and so do the user and password of the base URL: remove one of them, at Caddyfile:4`},
		{"a key with Bearer", directive("api openai", "endpoint http://one {\nkey \"Bearer sEcReT\"\n}"), `key: leave Bearer out, because api openai sets how keys are sent, at Caddyfile:4`},
		{"a key that is not quoted", directive("api openai", "endpoint http://one {\nkey Bearer sEcReT\n}"), `key: want one key, without Bearer; write each further key on its own line, at Caddyfile:5`},
		{"an empty key", directive("api openai", "endpoint http://one {\nkey \"\"\n}"), `key: the key is empty, at Caddyfile:4`},
		{"a key twice", directive("api openai", "endpoint http://one {\nkey sEcReT\nkey sEcReT\n}"), `key: the same key is given twice, at Caddyfile:4`},
		{"a key of the pool", directive(one, "key sEcReT"), `unknown option key of failover; it is an option of an endpoint, at Caddyfile:4`},
		{"a model without an api", directive("endpoint http://one {\nmodel x\n}"), `model needs the pool's api, which says where requests name their model: give the pool api openai, or the endpoint set_json model x instead, at Caddyfile:3`},
		{"a model of an api without", directive("api jsonrpc", "endpoint http://one {\nmodel x\n}"), `model: requests of api jsonrpc have none, at Caddyfile:4`},
		{"a model twice", directive("api openai", "endpoint http://one {\nmodel a b\nmodel a c\n}"), `model a is given twice, at Caddyfile:4`},
		{"two names of every model", directive("api openai", "endpoint http://one {\nmodel b\nmodel c\n}"), `model c: the name for all other models is given twice; write model <asked> c, at Caddyfile:4`},
		{"a model with a slash in a path", directive("api gemini", "endpoint http://one {\nmodel a/b\n}"), `model a/b: the name of a model of api gemini cannot contain : or /, at Caddyfile:4`},
		{"a model of three words", directive("api openai", "endpoint http://one {\nmodel a b c\n}"), `model: want model [<asked>] <name>, at Caddyfile:5`},
		{"quota", directive(one, "quota nobody"), `quota must be endpoint or client, not "nobody", at Caddyfile:4`},
		{"quota of an endpoint", directive("endpoint http://one {\nquota nobody\n}"), `quota must be endpoint or client, not "nobody", at Caddyfile:4`},
		{"client_credentials", directive(one, "client_credentials keep"), `client_credentials must be strip or pass, not "keep", at Caddyfile:4`},
		{"all_down", directive(one, "all_down panic"), `all_down must be fail_fast, try_anyway or wait, not "panic", at Caddyfile:4`},
		{"overflow below 1", directive(one, "overflow 0.5"), `invalid overflow "0.5": want strict or a factor of 1 or more, at Caddyfile:4`},
		{"overflow 0", directive(one, "overflow 0"), `invalid overflow "0": want strict or a factor of 1 or more, at Caddyfile:4`},
		{"overflow of words", directive(one, "overflow much"), `invalid overflow "much": want strict or a factor of 1 or more, at Caddyfile:4`},
		{"a negative weight", directive("endpoint http://one {\nweight -1\n}"), `invalid weight "-1": want 0 or more, at Caddyfile:4`},
		{"a weight that is no number", directive("endpoint http://one {\nweight NaN\n}"), `invalid weight "NaN": want a number, at Caddyfile:4`},
		{"an infinite weight", directive("endpoint http://one {\nweight Inf\n}"), `invalid weight "Inf": want a number, at Caddyfile:4`},
		{"priority 0", directive("endpoint http://one {\npriority 0\n}"), `invalid priority "0": want a whole number of 1 or more, at Caddyfile:4`},
		{"half a priority", directive("endpoint http://one {\npriority 1.5\n}"), `invalid priority "1.5": want a whole number of 1 or more, at Caddyfile:4`},
		{"max_requests 0", directive("endpoint http://one {\nmax_requests 0\n}"), `invalid max_requests "0": want a whole number of 1 or more, at Caddyfile:4`},
		{"a header without value", directive("endpoint http://one {\nheader Authorization\n}"), `header Authorization: want header [+]<field> <value> or header -<field>, at Caddyfile:4`},
		{"a header that is not quoted", directive("endpoint http://one {\nheader Authorization Bearer sEcReT\n}"), `header Authorization: want header [+]<field> <value> or header -<field>, at Caddyfile:4`},
		{"a removed header with a value", directive("endpoint http://one {\nheader -X-A b\n}"), `header -X-A: want header [+]<field> <value> or header -<field>, at Caddyfile:4`},
		{"no duration", directive(one, "timeout soon"), `invalid timeout "soon": want a duration such as 500ms or 1m30s, at Caddyfile:4`},
		{"timeout 0", directive(one, "timeout 0s"), `invalid timeout "0s": want a duration such as 500ms or 1m30s, at Caddyfile:4`},
		{"a negative timeout", directive(one, "timeout -1s"), `invalid timeout "-1s": want a duration such as 500ms or 1m30s, at Caddyfile:4`},
		{"no timeout", directive(one, "timeout"), `a value is missing after timeout, at Caddyfile:4`},
		{"a matcher without a duration", directive(one, "timeout /x"), `a value is missing after /x, at Caddyfile:4`},
		{"a matcher that nobody knows", directive(one, "timeout @x 1s"), `unrecognized matcher name: @x, at Caddyfile:4`},
		{"a named matcher in the policy", policy("timeout @x 1s"), `named matcher @x: only the failover directive knows the site's matchers, at Caddyfile:4`},
		{"an idle timeout", directive(one, "idle_timeout never"), `invalid idle_timeout "never": want a duration such as 500ms or 1m30s, at Caddyfile:4`},
		{"no status", directive(one, "failure_status"), `a value is missing after failure_status, at Caddyfile:4`},
		{"status 600", directive(one, "failure_status 500 600"), `invalid status "600": want a code (503), a class (5xx) or a range (520-529), at Caddyfile:4`},
		{"commit", directive(one, "commit never"), `commit must be headers, first_byte, first_event or complete, not "never", at Caddyfile:4`},
		{"commit with a size", directive(one, "commit complete much"), `invalid commit size "much": want a size between 1 byte and 2GiB, at Caddyfile:4`},
		{"next_on", directive(one, "next_on often"), `next_on: invalid status "often": want a code (503), a class (5xx) or a range (520-529), at Caddyfile:4`},
		{"answer without a meaning", directive(one, "answer 200 x"), "answer 200: want [json <path>] [<regexp>] as failure|held|denied|next|ok, at Caddyfile:4"},
		{"answer with an unknown meaning", directive(one, "answer 200 x as bad"), `answer 200: want as failure, held, denied, next or ok, not "bad", at Caddyfile:4`},
		{"answer with a bad path", directive(one, "answer 200 json a..b x as ok"), "answer 200: path: a name is empty, at Caddyfile:4"},
		{"answer with a bad status", directive(one, "answer 100 as ok"), "answer 100: statuses under 200 are not final responses, at Caddyfile:4"},
		{"answer with too much", directive(one, "answer 200 json a b c as ok"), "answer 200: want [json <path>] [<regexp>] as failure|held|denied|next|ok, at Caddyfile:4"},
		{"next_on with a bad regexp", directive(one, "next_on 400 ("), "next_on 400: error parsing regexp: missing closing ): `(`, at Caddyfile:4"},
		{"set_json without value", directive("endpoint http://one {\nset_json model\n}"), `a value is missing after model, at Caddyfile:4`},
		{"set_json with a third word", directive("endpoint http://one {\nset_json model x maybe\n}"), `set_json model: want optional, not "maybe", at Caddyfile:4`},
		{"breaker on", directive(one, "breaker on"), `breaker on: want off or a block, at Caddyfile:4`},
		{"a ratio above 1", directive(one, "breaker {\nfailure_ratio 150%\n}"), `invalid failure_ratio "150%": want 0% to 100%, or 0 to 1, at Caddyfile:5`},
		{"a ratio below 0", directive(one, "breaker {\nfailure_ratio -0.1\n}"), `invalid failure_ratio "-0.1": want 0% to 100%, or 0 to 1, at Caddyfile:5`},
		{"a ratio of words", directive(one, "breaker {\nslow_ratio half\n}"), `invalid slow_ratio "half": want 0% to 100%, or 0 to 1, at Caddyfile:5`},
		{"a first share of 0", directive(one, "breaker {\nstart 0%\n}"), `invalid start "0%": want more than 0%, at Caddyfile:5`},
		{"negative failures", directive(one, "breaker {\nconsecutive_failures -1\n}"), `invalid consecutive_failures "-1": want a whole number of 0 or more, at Caddyfile:5`},
		{"min_requests 0", directive(one, "breaker {\nmin_requests 0\n}"), `invalid min_requests "0": want a whole number of 1 or more, at Caddyfile:5`},
		{"slow_ratio alone", directive(one, "breaker {\nslow_ratio 50%\n}"), `breaker: slow_ratio and slow_after need each other, at Caddyfile:4`},
		{"slow_after alone", directive(one, "breaker {\nslow_after 1s\n}"), `breaker: slow_ratio and slow_after need each other, at Caddyfile:4`},
		{"slow_factor below 1", directive(one, "breaker {\nslow_factor 0.5\n}"), `invalid slow_factor "0.5": want 0 or at least 1, at Caddyfile:5`},
		{"open_max below open_for", directive(one, "breaker {\nopen_for 10s\nopen_max 5s\n}"), `breaker: open_max (5s) must not be shorter than open_for (10s), at Caddyfile:4`},
		{"open_max below the default open_for", directive(one, "breaker {\nopen_max 4s\n}"), `breaker: open_max (4s) must not be shorter than open_for (5s), at Caddyfile:4`},
		{"open_max beyond a day", directive(one, "breaker {\nopen_max 25h\n}"), `breaker: open_max must be at most 24h, at Caddyfile:4`},
		{"window 0", directive(one, "breaker {\nwindow 0s\n}"), `invalid window "0s": want a duration such as 500ms or 1m30s, at Caddyfile:5`},
		{"retry on", directive(one, "retry on"), `retry on: want off or a block, at Caddyfile:4`},
		{"attempts 0", directive(one, "retry {\nattempts 0\n}"), `invalid attempts "0": want a whole number of 1 or more, at Caddyfile:5`},
		{"no method", directive(one, "retry {\nmethods\n}"), `a value is missing after methods, at Caddyfile:5`},
		{"a method in lower case", directive(one, "retry {\nmethods get\n}"), `retry: unknown method "get": want idempotent, any, or method names in upper case, at Caddyfile:4`},
		{"any and others", directive(one, "retry {\nmethods any GET\n}"), `retry: methods "any" cannot be combined with others, at Caddyfile:4`},
		{"no method at all", directive(one, "retry {\nmethods G@T\n}"), `retry: invalid method "G@T", at Caddyfile:4`},
		{"same_endpoint", directive(one, "retry {\nsame_endpoint -1\n}"), `invalid same_endpoint "-1": want a whole number of 0 or more, at Caddyfile:5`},
		{"backoff", directive(one, "retry {\nbackoff fast\n}"), `invalid backoff "fast": want a duration such as 500ms or 1m30s, at Caddyfile:5`},
		{"a backoff's cap", directive(one, "retry {\nbackoff 1s never\n}"), `invalid backoff cap "never": want a duration such as 500ms or 1m30s, at Caddyfile:5`},
		{"a budget", directive(one, "retry {\nbudget 120%\n}"), `invalid budget "120%": want 0% to 100%, or 0 to 1, at Caddyfile:5`},
		{"a budget's floor", directive(one, "retry {\nbudget 20% -1\n}"), `invalid budget floor "-1": want 0 or more, at Caddyfile:5`},
		{"a budget's words", directive(one, "retry {\nbudget 20% 3 4\n}"), `unexpected argument "4" of budget, at Caddyfile:5`},
		{"wait_retry_after", directive(one, "retry {\nwait_retry_after long\n}"), `invalid wait_retry_after "long": want a duration such as 500ms or 1m30s, at Caddyfile:5`},
		{"buffer", directive(one, "retry {\nbuffer 0\n}"), `invalid buffer "0": want a size between 1 byte and 2GiB, at Caddyfile:5`},
		{"a buffer of 3GiB", directive(one, "retry {\nbuffer 3GiB\n}"), `invalid buffer "3GiB": want a size between 1 byte and 2GiB, at Caddyfile:5`},
		{"an option of reverse_proxy", directive(one, "flush_interval sometimes"), `bad duration value 'sometimes': time: invalid duration "sometimes", at Caddyfile:4`},
	} {
		got := adaptError(test.input)
		for _, directive := range []string{"failover", "reverse_proxy"} {
			got = strings.TrimPrefix(got, "parsing caddyfile tokens for '"+directive+"': ")
		}
		if got != test.want {
			t.Errorf("%s: got %q, want %q", test.name, got, test.want)
		}
		if strings.Contains(got, "sEcReT") {
			t.Errorf("%s: the message shows a secret", test.name)
		}
	}
}

// TestFleetErrors checks that errors say what is wrong with the block of a fleet, and where.
func TestFleetErrors(t *testing.T) {
	for block, want := range map[string]string{
		"fleet":                                         "fleet: want one name",
		"fleet a b":                                     "fleet: want one name",
		"fleet a":                                       "fleet a: the engine is missing: write storage, or redis and its URL",
		"fleet a {\n}":                                  "fleet a: the engine is missing: write storage, or redis and its URL",
		"fleet a {\nsecret sEcReT\n}":                   "fleet a: the engine is missing: write storage, or redis and its URL",
		"fleet a {\nstorage\nstorage\n}":                "storage: the fleet already has an engine; remove one",
		"fleet a {\nstorage soon\n}":                    `storage: "soon" is no duration; write one such as 2s`,
		"fleet a {\nstorage 1ms\n}":                     "storage: the interval is 1ms: want 500ms to 1m",
		"fleet a {\nstorage 2s 3s\n}":                   `storage: unexpected "3s"; it has one interval at most`,
		"fleet a {\nstorage {\nfast\n}\n}":              `storage: unexpected "fast"; it has no block`,
		"fleet a {\nstorage\nsecret\n}":                 "secret: want one text",
		"fleet a {\nstorage\nsecret sEcReT x\n}":        "secret: want one text",
		"fleet a {\nstorage\ninstance a b\n}":           "instance: want one name",
		"fleet a {\nstorage\ninstance a\ninstance b\n}": "instance appears twice; remove one",
		"fleet a {\nstorag\n}":                          `unknown option "storag" of fleet; did you mean storage?`,
		"fleet a {\nredis redis://:sEcReT@one\n}":       "redis is not in this build: build it with --with github.com/apifailover/caddy-failover/redis",
		"fleet a {\nstorage\n}\nfleet b {\nstorage\n}":  "fleet appears twice; an instance belongs to one fleet",
	} {
		got := adaptError("{\nfailover {\n" + block + "\n}\n}\n:80")
		got = strings.TrimPrefix(got, "parsing caddyfile tokens for 'failover': ")
		if cut, _, _ := strings.Cut(got, ", at Caddyfile:"); cut != want {
			t.Errorf("%q: got %q, want %q", block, got, want)
		}
		if strings.Contains(got, "sEcReT") {
			t.Errorf("%q: the message shows a secret", block)
		}
	}
}

var update = flag.Bool("update", false, "write the fixtures of testdata/adapt and docs/reference.md anew")

// TestAdapt checks that each Caddyfile in testdata/adapt becomes the JSON that follows it, and that each
// handler of that JSON loads.
func TestAdapt(t *testing.T) {
	files, err := filepath.Glob("testdata/adapt/*.caddyfiletest")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d fixtures: %v", len(files), err)
	}
	for _, name := range []string{"ONE_KEY", "MY_KEY", "PROBE_KEY"} {
		t.Setenv(name, "key")
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".caddyfiletest"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			input, want, _ := strings.Cut(string(text), "----------\n")
			var pretty bytes.Buffer
			if err := json.Indent(&pretty, adapt(t, input), "", "\t"); err != nil {
				t.Fatal(err)
			}
			pretty.WriteByte('\n')
			got := pretty.String()
			if *update {
				if err := os.WriteFile(file, []byte(input+"----------\n"+got), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if got != want {
				t.Errorf("%s adapts to\n%s", file, got)
			}
			if formatted := string(caddyfile.Format([]byte(input))); formatted != input {
				t.Errorf("caddy fmt would make this of it:\n%s", formatted)
			}
			for _, handler := range proxyHandlers(t, []byte(got)) {
				_, end, err := provisioned(t, handler)
				if err != nil {
					t.Fatalf("loading: %v", err)
				}
				end()
			}
		})
	}
}

// proxyHandlers returns the proxies in a configuration.
func proxyHandlers(t *testing.T, config []byte) (handlers []json.RawMessage) {
	t.Helper()
	var anything any
	if err := json.Unmarshal(config, &anything); err != nil {
		t.Fatal(err)
	}
	var find func(any)
	find = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			if v["handler"] == "reverse_proxy" {
				raw, err := json.Marshal(v)
				if err != nil {
					t.Fatal(err)
				}
				handlers = append(handlers, raw)
				return
			}
			for _, field := range v {
				find(field)
			}
		case []any:
			for _, element := range v {
				find(element)
			}
		}
	}
	find(anything)
	if len(handlers) == 0 {
		t.Fatal("there is no proxy in it")
	}
	return handlers
}

// FuzzCaddyfile checks that each error of the policy's parser names a place in the file, and that a
// policy without an error is valid in a configuration and stays the same as JSON.
func FuzzCaddyfile(f *testing.F) {
	files, err := filepath.Glob("testdata/adapt/*.caddyfiletest")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		input, _, _ := strings.Cut(string(text), "----------\n")
		_, block, _ := strings.Cut(input, "{\n")
		_, block, _ = strings.Cut(block, "{\n")
		block = strings.ReplaceAll(block, "endpoint ", "upstream ")
		f.Add(strings.TrimSuffix(strings.TrimSpace(block), "}"))
	}
	f.Add("timeout * 5s\nupstream [::1] {\nweight 1e3\n}")
	f.Add("name \"\"\nname x")
	f.Fuzz(func(t *testing.T, block string) {
		tokens, err := caddyfile.Tokenize([]byte("failover {\n"+block+"\n}"), "Testfile")
		if err != nil {
			return // Caddy's own error
		}
		p := new(Policy)
		if err := p.UnmarshalCaddyfile(caddyfile.NewDispenser(tokens)); err != nil {
			if !strings.Contains(err.Error(), ", at Testfile:") && !strings.Contains(err.Error(), "Testfile:") {
				t.Fatalf("no place in %q", err)
			}
			return
		}
		text, err := json.Marshal(p)
		if err != nil {
			t.Fatalf("no JSON: %v", err)
		}
		again := new(Policy)
		if err := caddy.StrictUnmarshalJSON(text, again); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if back, err := json.Marshal(again); err != nil || string(back) != string(text) {
			t.Fatalf("%s became %s, %v", text, back, err)
		}
		again.setDefaults()
		if err := again.Validate(); err != nil {
			t.Fatalf("%s was accepted, but: %v", block, err)
		}
	})
}

// TestFixturesHaveEveryOption checks that each option is in a fixture.
func TestFixturesHaveEveryOption(t *testing.T) {
	files, err := filepath.Glob("testdata/adapt/*.caddyfiletest")
	if err != nil {
		t.Fatal(err)
	}
	used := make(map[string]bool)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		input, _, _ := strings.Cut(string(text), "----------\n")
		for line := range strings.Lines(input) {
			if words := strings.Fields(line); len(words) > 0 {
				used[words[0]] = true
			}
		}
	}
	for _, options := range []iter.Seq[string]{
		maps.Keys(poolOptions), maps.Keys(endpointOptions), maps.Keys(breakerOptions),
		maps.Keys(retryOptions), maps.Keys(healthOptions), maps.Keys(slaOptions),
	} {
		for option := range options {
			if !used[option] {
				t.Errorf("no fixture has %s", option)
			}
		}
	}
}

// TestEmptyBlocksAreNoMistake checks that an option with an empty block means the same as without a
// block.
func TestEmptyBlocksAreNoMistake(t *testing.T) {
	for _, text := range []string{
		"retry {\n\n\t}", "retry {\n\t}", "endpoint http://two.test {\n\t}", "transport http {\n\t}\n\tbreaker {\n\t}",
	} {
		site := ":80 {\n\tfailover {\n\t\tendpoint http://one.test\n\t\t" + text + "\n\t\theader_up X-One 1\n\t}\n}\n"
		config, err := tryAdapt(site)
		if err != nil {
			t.Errorf("%q: %v", text, err)
		} else if !strings.Contains(string(config), `"X-One"`) {
			t.Errorf("%q: what comes after it is lost: %s", text, config)
		}
	}
}
