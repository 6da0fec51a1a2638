package call

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/apifailover/caddy-failover/internal/jsondoc"
	"github.com/apifailover/caddy-failover/internal/target"
	"github.com/caddyserver/caddy/v2"
)

// FuzzSetJSON checks that an edited body has each set value exactly once at its path, and that every body
// that cannot be edited is refused with 415.
func FuzzSetJSON(f *testing.F) {
	for _, body := range []string{`{"model":"a","model":"b"}`, `{"mod\u0065l":{"x":[]},"options":{"max":[1]}}`, `[]`, `{`, `{"options":[1]}`,
		`{"options":{"max":1,"Max":2,"max\u0000":3}}`, strings.Repeat(`{"options":`, 30) + "1" + strings.Repeat("}", 30)} {
		f.Add([]byte(body), "text")
	}
	f.Add([]byte(`{"model":"{env.HOME}"}`), "\"},{\"model\":\"\xff")
	f.Fuzz(func(t *testing.T, body []byte, user string) {
		if u := notAnObject(body); u != nil {
			if json.Valid(body) && body[0] == '{' && u.Status != http.StatusUnsupportedMediaType {
				t.Fatalf("%q: %d", body, u.Status)
			}
			return
		}
		var to target.Target
		to.SetEdits([]target.JSONEdit{
			target.NewJSONEdit("model", json.RawMessage(`"{user}"`), false),
			target.NewJSONEdit("options.max", json.RawMessage(`5`), true),
		})
		repl := caddy.NewEmptyReplacer()
		repl.Set("user", user)
		original := string(body)
		got, err := to.SetJSON(body, "", repl)
		if err != nil || string(body) != original {
			t.Fatalf("%q: %q, %v", original, body, err)
		}
		if err := jsondoc.Check(got, jsondoc.MaxDepth+3); err != nil {
			t.Fatalf("%q: %q: %v", body, got, err)
		}
		var read struct {
			Model   string
			Options any
		}
		if err := json.Unmarshal(got, &read); err != nil || utf8.ValidString(user) && read.Model != user {
			t.Fatalf("%q: %q: read as %q (%v)", body, got, read.Model, err)
		}
		if options, ok := read.Options.(map[string]any); ok && fmt.Sprint(options["max"]) != "5" {
			t.Fatalf("%q: %q: options are %v", body, got, options)
		}
		n := 0
		for name := range jsondoc.Members(got) {
			if before, _, _ := strings.Cut(name, "\x00"); strings.EqualFold(before, "model") {
				n++
			}
		}
		if n != 1 {
			t.Fatalf("%q: %q: there are %d members model", body, got, n)
		}
	})
}
