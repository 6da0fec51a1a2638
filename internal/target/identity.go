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
	repl := caddy.NewReplacer()
	return t.identity(func(text string) string { return repl.ReplaceKnown(text, "") })
}

// Written returns what Identity returns with its placeholders as they are written.
func (t *Target) Written() (base, credentials string) {
	return t.identity(func(text string) string { return text })
}

func (t *Target) identity(expand func(string) string) (base, credentials string) {
	base = t.Address
	if t.URL != nil {
		base = t.URL.String()
	}
	if t.Headers == nil {
		return base, ""
	}
	var lines []string
	for _, set := range []http.Header{t.Headers.Set, t.Headers.Add} {
		for _, field := range slices.Sorted(maps.Keys(set)) {
			if SetsCredential(expand(field)) {
				for _, value := range set[field] {
					lines = append(lines, Plain(field)+": "+expand(value))
				}
			}
		}
	}
	return base, strings.Join(lines, "\n")
}
