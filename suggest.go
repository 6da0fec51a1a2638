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
	"backup": "priority", "strategy": "balance",
}

// suggestOption returns the end of an error about an unknown word in the block `of`: the known word,
// or the block, that may be meant. It returns "" if no word is near.
func suggestOption(word, of string, known iter.Seq[string]) string {
	candidates := slices.Collect(known)
	if other := otherNames[word]; slices.Contains(candidates, other) {
		return fmt.Sprintf("; did you mean %s?", other)
	}
	if word == "retries" && of == "failover" {
		return "; did you mean attempts, in the block retry?"
	}
	if slices.Contains(ofTransports, word) {
		return "; it is an option of the proxy, in a block transport http"
	}
	if near := spelling.Nearest(word, candidates); near != "" {
		return fmt.Sprintf("; did you mean %s?", near)
	}
	if slices.Contains(ofProxy, word) && of != "failover" {
		return "; it is an option of the proxy, outside the block " + of
	}
	for _, block := range []string{"endpoint", "failover", "breaker", "health", "retry", "sla"} {
		if slices.Contains(words[block], word) && block != of && !(block == "endpoint" && of == "upstream") && word != "url" {
			place := "the block " + block
			switch block {
			case "failover":
				place = "the pool, outside the block " + of
			case "endpoint":
				place = "an endpoint"
			}
			return fmt.Sprintf("; it is an option of %s", place)
		}
	}
	return ""
}

// otherValues maps names of providers and other words to the values here.
var otherValues = map[string]string{
	"claude": "anthropic", "google": "gemini", "vertex": "gemini", "chatgpt": "openai", "gpt": "openai", "azure": "openai", "deepseek": "openai",
	"groq": "openai", "mistral": "openai", "ollama": "openai", "openrouter": "openai", "vllm": "openai", "ethereum": "jsonrpc", "evm": "jsonrpc", "rpc": "jsonrpc",
}

// suggest is suggestOption for a value that can be one of a few words.
func suggest(word string, known ...string) string {
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

// suggestDuration returns the end of an error about the current word of d, which is no duration: the
// duration that it may mean, with the next word. It moves d on.
func suggestDuration(d *caddyfile.Dispenser) string {
	number := d.Val()
	unit := strings.TrimLeft(number, "0123456789.")
	number = strings.TrimSuffix(number, unit)
	if unit == "" && d.NextArg() {
		unit = d.Val()
		if _, ok := units[strings.ToLower(unit)]; !ok {
			unit = ""
		}
	}
	short, ok := units[strings.ToLower(unit)]
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
