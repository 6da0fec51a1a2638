package failover

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/caddyserver/caddy/v2"

	"github.com/apifailover/caddy-failover/internal/jsondoc"
)

// TestSetJSONOfDeepBodies: whatever the buffer, a body that is nested too deeply costs its
// own size, and is a 415 that no endpoint hears of.
func TestSetJSONOfDeepBodies(t *testing.T) {
	a := newAPI(t, "one")
	a.behave(a.told)
	p := startCaddy(t, edited("retry {\nbuffer 16MiB\n}", []*api{a}, "set_json model small"))
	for name, body := range map[string]string{
		"open":    `{"a":` + strings.Repeat("[", 5_800_000),
		"closed":  `{"a":` + strings.Repeat("[", 2_900_000) + strings.Repeat("]", 2_900_000) + "}",
		"objects": strings.Repeat(`{"a":`, 1_000_000) + "1" + strings.Repeat("}", 1_000_000),
		"by one":  `{"a":` + strings.Repeat("[", 1000) + strings.Repeat("]", 1000) + "}",
	} {
		before := allocated()
		got := p.call(http.MethodPost, "/", body)
		if got.status != http.StatusUnsupportedMediaType || !strings.Contains(got.body, "nested more than 1000 deep") {
			t.Errorf("%s: got %d %.200q", name, got.status, got.body)
		}
		if used := allocated() - before; used > 100<<20 {
			t.Errorf("%s: %d MiB were allocated for %d MiB", name, used>>20, len(body)>>20)
		}
	}
	if n := a.hits.Load(); n != 0 {
		t.Errorf("the endpoint was asked %d times", n)
	}
	fits := `{"a":` + strings.Repeat("[", 999) + strings.Repeat("]", 999) + "}"
	if got := p.call(http.MethodPost, "/", fits); got.status != 200 || !strings.Contains(got.body, `"model":"small"`) {
		t.Errorf("1000 deep: got %d %.100q", got.status, got.body)
	}
}

// allocated is how much has been allocated on the heap, ever.
func allocated() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}

// TestSetJSONIsNotBypassed: an endpoint finds what is set, however it reads JSON.
func TestSetJSONIsNotBypassed(t *testing.T) {
	a := newAPI(t, "one")
	a.behave(func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) })
	p := startCaddy(t, edited("retry {\nmethods any\n}", []*api{a}, "set_json model small\nset_json options.max 5\nset_json messages.0.role user"))
	for _, body := range []string{
		`{"model":"a","model":"expensive"}`,
		`{"model":"a","mod\u0065l":"expensive"}`,
		`{"mod\u0065l":"expensive","\u006d\u006f\u0064\u0065\u006c":"expensive"}`,
		`{"Model":"expensive"}`,
		`{"model":"a","MODEL":"expensive","model\u0000":"expensive"}`,
		`{"options":{"max":9,"max":10},"options":{"max":11},"Options":{"max":12}}`,
		`{"options":7,"option\u0073":{"m\u0061x":11}}`,
		`{"messages":[{"role":"system","r\u006fle":"system"},{"role":"system"}],"messages":[{"role":"a","Role":"b"}]}`,
	} {
		got := p.call(http.MethodPost, "/", body)
		if got.status != 200 {
			t.Errorf("%s: got %d %q", body, got.status, got.body)
			continue
		}
		names := 0
		for name, value := range jsondoc.Members([]byte(got.body)) {
			names++
			want := map[string]string{"model": `"small"`, "options": `{"max":5}`, "messages": `[{"role":"user"}]`}[name]
			if string(value) != want {
				t.Errorf("%s: %s is %s", body, name, value)
			}
		}
		if names != 3 {
			t.Errorf("%s: got %s", body, got.body)
		}
	}
	for _, body := range []string{"{\"model\":\"a\",\"mo\xffdel\":\"b\"}", "\xff\xfe{\x00}\x00", "\ufeff{}"} {
		if got := p.call(http.MethodPost, "/", body); got.status != http.StatusUnsupportedMediaType {
			t.Errorf("%q: got %d", body, got.status)
		}
	}
}

func TestSetJSONPathsAreChecked(t *testing.T) {
	for path, want := range map[string]string{
		"messages.#.role": "wildcard or a query",
		"a*":              "wildcard or a query",
		"a.b|@reverse":    "wildcard or a query",
		"list.100000000":  "over 1000",
		"a..b":            "a name is empty",
	} {
		err := (&SetJSON{Path: path, Value: json.RawMessage("1")}).validate()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// FuzzSetJSON: of any body an endpoint gets one in which each value that is set is
// the only one at its path, and the client gets an answer if there is none.
func FuzzSetJSON(f *testing.F) {
	for _, body := range []string{`{"model":"a","model":"b"}`, `{"mod\u0065l":{"x":[]},"options":{"max":[1]}}`, `[]`, `{`, `{"options":[1]}`,
		`{"options":{"max":1,"Max":2,"max\u0000":3}}`, strings.Repeat(`{"options":`, 30) + "1" + strings.Repeat("}", 30)} {
		f.Add([]byte(body), "text")
	}
	f.Add([]byte(`{"model":"{env.HOME}"}`), "\"},{\"model\":\"\xff")
	f.Fuzz(func(t *testing.T, body []byte, user string) {
		if u := notAnObject(body); u != nil {
			if json.Valid(body) && body[0] == '{' && u.status != http.StatusUnsupportedMediaType {
				t.Fatalf("%q: %d", body, u.status)
			}
			return
		}
		var to target
		to.setEdits([]*SetJSON{
			{Path: "model", Value: json.RawMessage(`"{user}"`)},
			{Path: "options.max", Value: json.RawMessage(`5`), Optional: true},
		})
		repl := caddy.NewEmptyReplacer()
		repl.Set("user", user)
		original := string(body)
		got, err := to.setJSON(body, repl)
		if err != nil || string(body) != original {
			t.Fatalf("%q: %q, %v", original, body, err)
		}
		if err := jsondoc.Check(got, maxJSONDepth+3); err != nil {
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
			t.Fatalf("%q: %q: model is there %d times", body, got, n)
		}
	})
}
