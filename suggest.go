package failover

import (
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/apifailover/caddy-failover/internal/spelling"
)

// words are the known words of each block of a Caddyfile, by the block's name in errors. init
// sets them, because the functions of the option tables use them.
var words map[string][]string

func init() {
	words = map[string][]string{
		"failover": append(slices.Collect(maps.Keys(poolOptions)), "endpoint"),
		"endpoint": slices.Collect(maps.Keys(endpointOptions)),
		"breaker":  slices.Collect(maps.Keys(breakerOptions)),
		"health":   slices.Collect(maps.Keys(healthOptions)),
		"retry":    slices.Collect(maps.Keys(retryOptions)),
		"sla":      slices.Collect(maps.Keys(slaOptions)),
	}
}

// ofProxy are the options of reverse_proxy. The directive accepts them, too.
var ofProxy = strings.Fields(`dynamic lb_retries lb_try_duration lb_try_interval lb_retry_match health_uri health_path health_upstream health_port
	health_interval health_passes health_fails health_timeout health_status health_body health_method health_request_body
	health_follow_redirects health_headers max_fails fail_duration unhealthy_request_count unhealthy_status unhealthy_latency flush_interval
	request_buffers response_buffers stream_buffer_size stream_timeout stream_close_delay trusted_proxies header_up header_down method rewrite
	transport handle_response replace_status verbose_logs proxy_status_name`)

// ofTransports are options of the proxy's HTTP transport that people look for.
var ofTransports = strings.Fields(`tls_insecure_skip_verify tls_server_name tls_trust_pool tls_client_auth dial_timeout response_header_timeout
	read_timeout write_timeout keepalive versions`)

// otherNames maps options of other proxies and other blocks to the options here.
var otherNames = map[string]string{
	"status": "expect_status", "health_status": "expect_status", "health_body": "expect_body", "headers": "header",
	"health_headers": "header", "request_body": "body", "health_request_body": "body", "health_uri": "uri", "health_path": "uri", "path": "uri",
	"health_port": "port", "health_interval": "interval", "health_timeout": "timeout", "health_passes": "passes", "health_fails": "fails",
	"api_key": "key", "provider": "api", "dialect": "api",
	"health_method": "method", "retries": "attempts", "lb_retries": "attempts", "header_up": "header",
	"backup": "priority", "strategy": "balance", "base_url": "url", "authorization": "header",
	"circuit_breaker": "breaker", "health_check": "health", "health_checks": "health", "healthcheck": "health", "retry_policy": "retry",
	"max_attempts": "attempts", "max_retries": "attempts", "max": "attempts", "backoff_max": "backoff", "buffer_size": "buffer",
	"cooldown": "open_for", "reset_timeout": "open_for", "threshold": "consecutive_failures", "failure_threshold": "consecutive_failures",
	"fallback": "endpoint", "upstreams": "endpoint", "servers": "endpoint", "sticky": "affinity", "uptime": "availability",
	"first_byte_timeout": "timeout", "connect_timeout": "dial_timeout", "fail_fast": "all_down", "try_anyway": "all_down", "wait": "all_down",
}

// otherPlaces maps options of other places to the places.
var otherPlaces = map[string]string{
	"memory": "the block failover of the global options", "notify": "the block failover of the global options", "fleet": "the block failover of the global options",
	"storage": "the block fleet, in the global options", "levers": "the directive failover_dashboard",
	"zone": "the block schedule", "drain": "the block schedule", "burst": "a limit, on the same line",
}

// suggestOption returns the end of an error about an unknown word in the block `of`: the known word,
// or the block, that may be meant. It returns "" if no word is near.
func suggestOption(word, of string, known iter.Seq[string]) string {
	candidates := slices.Collect(known)
	switch other := otherNames[word]; {
	case slices.Contains(candidates, other):
		return fmt.Sprintf("; did you mean %s?", other)
	case slices.Contains(ofTransports, other):
		return fmt.Sprintf("; did you mean %s, in a block transport http?", other)
	case placeOf(other, of) != "":
		return fmt.Sprintf("; did you mean %s, in %s?", other, placeOf(other, of))
	}
	if slices.Contains(ofTransports, word) {
		return "; it is an option of the proxy, in a block transport http"
	}
	if place := otherPlaces[word]; place != "" {
		return "; it is an option of " + place
	}
	if place := placeOf(word, of); place != "" {
		return "; it is an option of " + place
	}
	if near := spelling.Nearest(word, candidates); near != "" {
		return fmt.Sprintf("; did you mean %s?", near)
	}
	if slices.Contains(ofProxy, word) && of != "failover" {
		return "; it is an option of the proxy, outside the block " + of
	}
	return ""
}

// placeOf returns the places, other than the block `of`, that have an option; "" if none has.
func placeOf(word, of string) string {
	var places []string
	for _, block := range []string{"endpoint", "failover", "breaker", "health", "retry", "sla"} {
		if slices.Contains(words[block], word) && block != of && !(block == "endpoint" && of == "upstream") && word != "url" {
			place := "the block " + block
			switch block {
			case "failover":
				place = "the pool, outside the block " + of
				if len(places) > 0 {
					place = "the pool"
				}
			case "endpoint":
				place = "an endpoint"
			}
			places = append(places, place)
		}
	}
	if n := len(places); n > 1 {
		return strings.Join(places[:n-1], ", ") + " or " + places[n-1]
	}
	return strings.Join(places, "")
}

// otherValues maps names of providers and other words to the values here.
var otherValues = map[string]string{
	"claude": "anthropic", "google": "gemini", "vertex": "gemini", "chatgpt": "openai", "gpt": "openai", "azure": "openai", "deepseek": "openai",
	"round_robin": "weighted", "weighted_round_robin": "weighted", "least_conn": "least_requests", "least_connections": "least_requests",
	"groq": "openai", "mistral": "openai", "ollama": "openai", "openrouter": "openai", "vllm": "openai", "ethereum": "jsonrpc", "evm": "jsonrpc", "rpc": "jsonrpc",
}

// adviseVariable returns the end of an error about a word with a placeholder of the environment, which Caddy does not replace
// there: what to write instead; "" if the word has none.
func adviseVariable(word string) string {
	if m := loadPlaceholders.FindStringSubmatch(word); m != nil && m[1] == "env" {
		return fmt.Sprintf("; write {$%s}, which Caddy replaces when it reads the Caddyfile", m[2])
	}
	return ""
}

// adviseNumber returns the end of an error about a word that is no number: what it may mean.
func adviseNumber(word string) string {
	mended := strings.Replace(word, ",", ".", 1)
	if _, err := parseNumber(strings.TrimSuffix(mended, "%")); err == nil && mended != word {
		return fmt.Sprintf("; did you mean %s?", mended)
	}
	return adviseVariable(word)
}

// suggest is suggestOption for a value that can be one of a few words.
func suggest(word string, known ...string) string {
	if advice := adviseVariable(word); advice != "" {
		return advice
	}
	if other := otherValues[strings.ToLower(word)]; slices.Contains(known, other) {
		return fmt.Sprintf("; did you mean %s?", other)
	}
	if near := spelling.Nearest(word, known); near != "" {
		return fmt.Sprintf("; did you mean %s?", near)
	}
	return ""
}

// units are the units of durations, by the words that people write for them.
var units = map[string]string{
	"": "s", "s": "s", "sec": "s", "secs": "s", "second": "s", "seconds": "s",
	"ms": "ms", "msec": "ms", "millis": "ms", "millisecond": "ms", "milliseconds": "ms",
	"m": "m", "min": "m", "mins": "m", "minute": "m", "minutes": "m",
	"h": "h", "hr": "h", "hour": "h", "hours": "h", "d": "d", "day": "d", "days": "d",
}

// offByDefault are options with durations that are off unless they are set.
var offByDefault = []string{"idle_timeout", "deadline", "wait_retry_after", "slow_after"}

// suggestDuration returns the end of an error about the current word of d, which is no duration: the
// duration that it may mean, with the next word. It moves d on.
func suggestDuration(d *caddyfile.Dispenser, option string) string {
	number := d.Val()
	if advice := adviseVariable(number); advice != "" {
		return advice
	}
	if slices.Contains([]string{"off", "none", "0", "0s"}, number) && slices.Contains(offByDefault, option) {
		return "; leave the option out to turn it off"
	}
	unit := strings.TrimLeft(number, "0123456789.")
	number = strings.TrimSuffix(number, unit)
	if unit == "" && d.NextArg() {
		unit = d.Val()
		if _, ok := units[strings.ToLower(unit)]; !ok {
			unit = ""
		}
	}
	short, ok := units[strings.ToLower(unit)]
	if unit == "" && strings.HasPrefix(option, "backoff") {
		short = "ms"
	}
	if number == "" {
		number, ok = "1", ok && unit != ""
	}
	if value, err := parseNumber(number); !ok || err != nil || value <= 0 {
		return ""
	}
	return fmt.Sprintf("; did you mean %s%s?", number, short)
}

// UnmarshalJSON implements json.Unmarshaler. It refuses unknown fields. Its errors name the field and say what it takes.
func (p *Policy) UnmarshalJSON(text []byte) error {
	type policy Policy
	err := caddy.StrictUnmarshalJSON(text, (*policy)(p))
	if err == nil {
		return eachValue("", reflect.ValueOf(p), refuseNull)
	}
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok && wrong.Field != "" {
		return fmt.Errorf("%s: want %s: %w", wrong.Field, describeType(wrong.Type), err)
	}
	if name, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		name = strings.Trim(name, `"`)
		near := spelling.Nearest(name, fieldsOf(reflect.TypeFor[Policy]()))
		switch {
		case near != "" && len(near) <= len(name)+2: // the field may be in another object, so only similar names are likely
			return fmt.Errorf("%w; did you mean %s?", err, near)
		case name != strings.ToLower(name):
			return fmt.Errorf("%w; a header field stands in set, add or delete", err)
		}
	}
	if strings.HasPrefix(err.Error(), "time: ") {
		return fmt.Errorf(`%w; want a duration such as "500ms" or "1m30s"`, err)
	}
	return err
}

// describeType says which JSON value a field of a Go type takes.
func describeType(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int64:
		return "a whole number"
	case reflect.Float64:
		return "a number"
	case reflect.String:
		return "a string"
	case reflect.Slice:
		return "a list"
	}
	return "an object"
}

// fieldsOf returns the JSON names of a type's fields, and of those within them.
func fieldsOf(t reflect.Type) (names []string) {
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice:
		return fieldsOf(t.Elem())
	case reflect.Struct:
		for i := range t.NumField() {
			field := t.Field(i)
			if name, _, _ := strings.Cut(field.Tag.Get("json"), ","); name != "" && field.IsExported() {
				names = append(append(names, name), fieldsOf(field.Type)...)
			}
		}
	}
	return names
}
