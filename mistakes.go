package failover

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/headers"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"go.uber.org/zap"
	"golang.org/x/net/http/httpguts"

	"github.com/apifailover/caddy-failover/internal/spelling"
	"github.com/apifailover/caddy-failover/internal/target"
)

// ofClient begins the placeholders whose values come from the client's request.
const ofClient = "{http.request."

// shellVariable matches a variable as shells and Compose files write it.
var shellVariable = regexp.MustCompile(`^\$(\w+|\{\w+\})$`)

// halfPlaceholder matches the beginning of a placeholder without an end, and one in two pairs of braces.
var halfPlaceholder = regexp.MustCompile(`\{(env|file)\.[^{}]*$|\{\{(env|file)\.[^{}]*\}\}`)

// longPlaceholders maps the short names of a Caddyfile to the names that placeholders have in JSON.
var longPlaceholders = map[string]string{
	"cookie": "http.request.cookie", "header": "http.request.header", "path": "http.request.uri.path",
	"query": "http.request.uri.query", "vars": "http.vars",
}

// checkPlaceholders refuses placeholders that have no value although they look as if they had: those
// with a misspelt name, and short names that Caddy has not replaced.
func checkPlaceholders(text string) error {
	for _, at := range placeholder.FindAllStringIndex(text, -1) {
		found := text[at[0]:at[1]]
		name := strings.Trim(found, "{}")
		end := strings.IndexAny(name, ".:")
		escaped := at[0] > 0 && text[at[0]-1] == '\\'
		if end < 0 || escaped || strings.Contains(name, `"`) { // a short name of the request, or a JSON object
			continue
		}
		kind, rest := name[:end], name[end+1:]
		if file, ok := strings.CutPrefix(name, "http.request.uri.path.file."); ok && file != "base" && file != "ext" {
			return fmt.Errorf("%s is a part of the request's path: write the path of a file with a slash, as {file./run/secrets/%s}", found, file)
		}
		switch long := longPlaceholders[kind]; {
		case long != "":
			return fmt.Errorf("%s has no value: write {%s.%s}", found, long, rest)
		case name[end] == '.' && slices.Contains([]string{"env", "file", "http", "system", "time"}, kind):
			continue
		}
		switch near := strings.ToLower(kind); {
		case slices.Contains([]string{"env", "envs", "environ", "environment"}, near):
			return fmt.Errorf("%s has no value: write {env.%s}", found, rest)
		case slices.Contains([]string{"file", "files"}, near):
			return fmt.Errorf("%s has no value: write {file.%s}", found, rest)
		}
		if near := spelling.Nearest(kind, []string{"cookie", "header", "query", "http"}); near != "" {
			if long := longPlaceholders[near]; long != "" {
				near = long
			}
			return fmt.Errorf("%s has no value; did you mean {%s.%s}?", found, near, rest)
		}
	}
	return nil
}

// checkCredential is checkPlaceholders for a credential, which may have a scheme such as Bearer before
// it.
func checkCredential(value string) error {
	words := strings.Fields(value)
	if len(words) == 0 {
		return nil
	}
	if m := halfPlaceholder.FindString(value); m != "" {
		return fmt.Errorf("%s is no placeholder: write it in one pair of braces, as {env.NAME}", m)
	}
	if last := words[len(words)-1]; shellVariable.MatchString(last) {
		return fmt.Errorf("%s is no variable of Caddy: write {env.%s}", last, strings.Trim(last, "${}"))
	}
	return checkPlaceholders(value)
}

// ofTransport are the fields that Go's HTTP client sets itself.
var ofTransport = []string{"Content-Length", "Trailer", "Transfer-Encoding"}

// checkOps checks the names of header operations, the placeholders of their values, and that no operation
// undoes another one.
func checkOps(ops *headers.HeaderOps) error {
	if ops == nil {
		return nil
	}
	for _, name := range ops.Delete {
		if name != "*" {
			name = strings.TrimSuffix(strings.TrimPrefix(name, "*"), "*")
		}
		if err := checkFieldName(name); err != nil {
			return err
		}
	}
	for _, fields := range []http.Header{ops.Add, ops.Set} {
		for name, values := range fields {
			if err := checkField(ops, name, values); err != nil {
				return err
			}
		}
	}
	for name := range ops.Add {
		if slices.ContainsFunc(fieldNames(ops.Set), func(set string) bool { return strings.EqualFold(set, name) }) {
			return fmt.Errorf("header %s: it is set and added to; write +%[1]s for each value", name)
		}
	}
	return nil
}

// checkField checks a field that ops sets or adds to.
func checkField(ops *headers.HeaderOps, name string, values []string) error {
	if err := checkFieldName(name); err != nil {
		return err
	}
	if slices.ContainsFunc(ofTransport, func(own string) bool { return strings.EqualFold(own, name) }) {
		return fmt.Errorf("header %s: Caddy sets it itself; remove the option", name)
	}
	if slices.ContainsFunc(ops.Delete, func(deleted string) bool { return strings.EqualFold(deleted, name) }) {
		return fmt.Errorf("header %s: it is set and removed; write one of them", name)
	}
	for _, value := range values {
		check := checkPlaceholders
		if target.SetsCredential(name) {
			check = checkCredential
		}
		if err := check(value); err != nil {
			return fmt.Errorf("header %s: %w", name, err)
		}
		if !httpguts.ValidHeaderFieldValue(value) {
			return fmt.Errorf("header %s: the value has a line break or another control character", name)
		}
	}
	return nil
}

// checkFieldName checks the name of a field, unless it has a placeholder.
func checkFieldName(name string) error {
	switch {
	case name == "":
		return errors.New("header: the name of the field is missing")
	case placeholder.MatchString(name) || httpguts.ValidHeaderFieldName(name):
		return nil
	case httpguts.ValidHeaderFieldName(strings.TrimSuffix(name, ":")):
		return fmt.Errorf("header %s: leave out the colon", name)
	}
	return fmt.Errorf("header %q: want the name of a field, such as X-Api-Key", name)
}

// fieldNames returns the names of header fields.
func fieldNames(fields http.Header) (names []string) {
	for name := range fields {
		names = append(names, name)
	}
	return names
}

// checkTwice refuses options of an endpoint that a later one of the same kind makes useless: limits of
// one unit and period, and values of JSON bodies at the same path or above it.
func (e *Endpoint) checkTwice() error {
	for i, l := range e.Limits {
		if slices.ContainsFunc(e.Limits[:i], func(other *Limit) bool { return other.unit() == l.unit() && other.Per == l.Per }) {
			return fmt.Errorf("limit: %s per %s are given twice", l.unit(), time.Duration(l.Per))
		}
	}
	for i, s := range e.SetJSON {
		for _, earlier := range e.SetJSON[:i] {
			switch {
			case strings.EqualFold(earlier.Path, s.Path): // names that differ in case are alike
				return fmt.Errorf("set_json %s is given twice", s.Path)
			case strings.HasPrefix(earlier.Path, s.Path+"."):
				return fmt.Errorf("set_json %s replaces set_json %s: swap them", s.Path, earlier.Path)
			}
		}
	}
	return nil
}

// offAlone refuses a block that is off and has other options. alone is the block with nothing but off.
func offAlone(name string, off bool, block, alone any) error {
	if off && !reflect.DeepEqual(block, alone) {
		return fmt.Errorf("%s: remove off, or the other options, which have no effect", name)
	}
	return nil
}

// leastDuration is the shortest duration that an option can have. Shorter ones are numbers in JSON without
// a unit, which Caddy takes for nanoseconds.
const leastDuration = 100 * time.Microsecond

// eachValue calls visit for a configuration and all that it contains, until visit returns an error. name is the name of the
// configuration in errors.
func eachValue(name string, config reflect.Value, visit func(name string, value reflect.Value) error) error {
	if err := visit(name, config); err != nil {
		return err
	}
	switch config.Kind() {
	case reflect.Pointer:
		if !config.IsNil() {
			return eachValue(name, config.Elem(), visit)
		}
	case reflect.Slice:
		for i := range config.Len() {
			if err := eachValue(fmt.Sprintf("%s[%d]", name, i), config.Index(i), visit); err != nil {
				return err
			}
		}
	case reflect.Struct:
		for i := range config.NumField() {
			field := config.Type().Field(i)
			tag, _, _ := strings.Cut(field.Tag.Get("json"), ",")
			if !field.IsExported() || tag == "" {
				continue
			}
			if err := eachValue(strings.TrimPrefix(name+"."+tag, "."), config.Field(i), visit); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkDuration refuses a duration above 0 that is shorter than leastDuration.
func checkDuration(name string, value reflect.Value) error {
	if d, ok := value.Interface().(caddy.Duration); ok && d > 0 && time.Duration(d) < leastDuration {
		return fmt.Errorf(`%s is only %v; write a unit, as in "5s": a number without one is nanoseconds`, name, time.Duration(d))
	}
	return nil
}

// refuseNull refuses null as an element of a list.
func refuseNull(name string, value reflect.Value) error {
	if value.Kind() == reflect.Pointer && value.IsNil() && strings.HasSuffix(name, "]") {
		return fmt.Errorf("%s: want an object, not null", name)
	}
	return nil
}

// warnOfPaths warns of base URLs that end with the path of a request, and of endpoints that get the path of their base URL twice.
func (p *Policy) warnOfPaths(matcher caddy.ModuleMap) {
	for _, e := range p.Endpoints {
		u, err := url.Parse(e.URL)
		if err == nil && p.API != "" && slices.ContainsFunc(routes, func(route string) bool { return strings.HasSuffix(strings.TrimRight(u.Path, "/"), route) }) {
			caddy.Log().Named("http.reverse_proxy.selection_policies.failover").Warn(
				"a base URL ends with the path of a request, which follows it anyway: leave that path out",
				zap.String("at", e.DefinedAt), zap.String("endpoint", target.RedactURL(u)))
		}
	}
	for _, e := range p.doubled(matcher) {
		u, err := url.Parse(e.URL)
		if err != nil {
			continue
		}
		caddy.Log().Named("http.reverse_proxy.selection_policies.failover").Warn(
			"an endpoint gets the path of its base URL twice, because the request's path follows it: leave the path out of the base URL, or use handle_path",
			zap.String("at", e.DefinedAt), zap.String("endpoint", target.RedactURL(u)), zap.ByteString("requests", matcher["path"]))
	}
}

// routes are the last parts of paths to which clients of LLM APIs send requests.
var routes = []string{"/chat/completions", "/completions", "/responses", "/embeddings", "/messages"}

// doubled returns the endpoints whose base URL has a path with which the paths of a directive's matcher
// begin, too.
func (p *Policy) doubled(matcher caddy.ModuleMap) (found []*Endpoint) {
	var paths []string
	if json.Unmarshal(matcher["path"], &paths) != nil {
		return nil
	}
	for _, e := range p.Endpoints {
		u, err := url.Parse(e.URL)
		if err != nil {
			continue
		}
		if slices.ContainsFunc(paths, func(path string) bool { return repeats(u, path) }) {
			found = append(found, e)
		}
	}
	return found
}

// repeats reports whether a path, which may end with a star, begins with the path of a base URL.
func repeats(base *url.URL, path string) bool {
	of := strings.TrimRight(base.Path, "/")
	rest, ok := strings.CutPrefix(path, of)
	return ok && of != "" && (rest == "" || rest[0] == '/' || rest[0] == '?' || rest == "*")
}

// warnOfChecks warns of health checks whose URI begins with the path of the base URL, which it follows anyway.
func (p *Policy) warnOfChecks() {
	for _, t := range p.handler.Targets {
		uri := ""
		if p.Health != nil {
			uri = p.Health.URI
		}
		if t.Health != nil {
			uri = cmp.Or(t.Health.Uri, uri)
		}
		if t.URL != nil && repeats(t.URL, uri) {
			p.handler.Logger.Warn("health checks get the path of the base URL twice, because their uri follows it: leave it out of the uri",
				zap.String("pool", p.Name), zap.String("endpoint", t.Name), zap.String("uri", uri), zap.String("base", t.URL.Path))
		}
	}
}

// warnOfPorts warns of base URLs with the usual port of the other scheme.
func (p *Policy) warnOfPorts() {
	for _, t := range p.handler.Targets {
		if t.URL != nil && (t.URL.Scheme == "http" && t.URL.Port() == "443" || t.URL.Scheme == "https" && t.URL.Port() == "80") {
			p.handler.Logger.Warn("a base URL has the usual port of the other scheme: write https with port 443, or http with port 80",
				zap.String("pool", p.Name), zap.String("endpoint", t.Name), zap.String("url", target.RedactURL(t.URL)))
		}
	}
}

// warnOfTimes warns of a deadline that leaves no time for another endpoint after a timeout, and of a hedge
// without a second endpoint.
func (p *Policy) warnOfTimes() {
	h, targets := p.handler, p.handler.Targets
	deadline := h.Retry.Deadline
	for _, t := range targets {
		if deadline > 0 && t.Timeout >= deadline && len(targets) > 1 && h.Retry.Attempts > 1 && h.Retry.Hedge == nil {
			h.Logger.Warn("a request to an endpoint that hangs gets a 504 and never moves on: make timeout shorter than retry deadline",
				zap.String("pool", p.Name), zap.String("endpoint", t.Name), zap.Duration("timeout", t.Timeout), zap.Duration("deadline", deadline))
			break
		}
	}
	if h.Retry.Hedge != nil && len(targets) == 1 {
		h.Logger.Warn("hedge has no effect: the pool has one endpoint", zap.String("pool", p.Name))
	}
}

// warnOfEmptyRoutes warns of handle_response without routes.
func (p *Policy) warnOfEmptyRoutes(handler *reverseproxy.Handler) {
	for _, r := range handler.HandleResponse {
		if len(r.Routes) == 0 && r.StatusCode == "" {
			p.handler.Logger.Warn("handle_response has no routes: clients get an empty 200 instead of the responses that it matches; write copy_response in its block, or remove it",
				zap.String("pool", p.Name))
		}
	}
}
