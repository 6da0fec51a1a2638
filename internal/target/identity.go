package target

import (
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
)

// Identity returns the endpoint's base URL, or its address if it has none, and its own credentials.
// Instances with the same two mean the same endpoint. Identity replaces placeholders that do not
// depend on a request, such as {env.KEY}.
func (t *Target) Identity() (base, credentials string) {
	base = t.Address
	if t.URL != nil {
		base = t.URL.String()
	}
	if t.Headers == nil {
		return base, ""
	}
	repl := caddy.NewReplacer()
	var lines []string
	for _, set := range []http.Header{t.Headers.Set, t.Headers.Add} {
		for _, field := range slices.Sorted(maps.Keys(set)) {
			if SetsCredential(repl.ReplaceKnown(field, "")) {
				for _, value := range set[field] {
					lines = append(lines, Plain(field)+": "+repl.ReplaceKnown(value, ""))
				}
			}
		}
	}
	return base, strings.Join(lines, "\n")
}
