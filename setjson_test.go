package failover

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/caddyserver/caddy/v2"

	"github.com/apifailover/caddy-failover/internal/call"
	"github.com/apifailover/caddy-failover/internal/jsondoc"
	"github.com/apifailover/caddy-failover/internal/target"
)

// told answers with what an endpoint was sent.
func (a *standIn) told(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	fmt.Fprintf(w, "%s %d %s", a.name, r.ContentLength, body)
}

// edited is a failover directive over endpoints of which each has options.
func edited(options string, apis []*standIn, each ...string) string {
	var b strings.Builder
	b.WriteString("failover {\n\tname api\n")
	for i, a := range apis {
		fmt.Fprintf(&b, "\tendpoint http://%s {\n\t\tname %s\n%s\n\t}\n", a.address, a.name, each[i])
	}
	b.WriteString(options + "\n}")
	return b.String()
}

func TestSetJSON(t *testing.T) {
	const methods = "retry {\nmethods any\nbuffer 1KiB\n}"
	const down = "down"
	big := `{"model":"m","pad":"` + strings.Repeat("x", 2000) + `"}`
	fits := `{"model":"m","pad":"` + strings.Repeat("x", 1024-len(`{"model":"m","pad":""}`)) + `"}`
	for _, test := range []struct {
		name     string
		one, two string // options; down: it fails
		body     string
		chunked  bool
		header   []string
		status   int
		want     string
	}{
		{name: "sets", one: "set_json model small", two: "", body: `{"model":"m", "n":1}`,
			status: 200, want: `one 24 {"model":"small", "n":1}`},
		{name: "sets what is not there", one: "set_json options.seed 7\nset_json stream true", body: `{"model":"m"}`,
			status: 200, want: `one 48 {"model":"m","options":{"seed":7},"stream":true}`},
		{name: "of unknown length", one: "set_json model small", body: `{"model":"m"}`, chunked: true,
			status: 200, want: `one 17 {"model":"small"}`},
		{name: "each endpoint its own", one: down + "\nset_json model small", two: "set_json model other", body: `{"model":"m"}`,
			status: 200, want: `two 17 {"model":"other"}`},
		{name: "the next as it came", one: down + "\nset_json model small", two: "", body: `{"model":"m"}`,
			status: 200, want: `two 13 {"model":"m"}`},
		{name: "after one that has it as it came", one: down, two: "set_json model small", body: `{"model":"m"}`,
			status: 200, want: `two 17 {"model":"small"}`},
		{name: "placeholders stay text", one: "set_json user {http.request.header.X-User}", body: `{}`, header: []string{"X-User", `a","admin":true,"b":"`},
			status: 200, want: `one 38 {"user":"a\",\"admin\":true,\"b\":\""}`},
		{name: "placeholders in a structure", one: "set_json meta `{\"who\":[\"{http.request.header.X-User}\",1.5]}`", body: `{}`, header: []string{"X-User", `7`},
			status: 200, want: `one 26 {"meta":{"who":["7",1.5]}}`},
		{name: "no body", one: "set_json model small", status: 200, want: "one 0 "},
		{name: "exactly the buffer", one: "set_json model n", body: fits, status: 200, want: "one 1024 " + strings.Replace(fits, `"m"`, `"n"`, 1)},
		{name: "exactly the buffer, of unknown length", one: "set_json model n", body: fits, chunked: true, status: 200, want: "one 1024 " + strings.Replace(fits, `"m"`, `"n"`, 1)},
		{name: "too large", one: "set_json model small", two: "set_json model other", body: big,
			status: 413, want: "larger than 1024 bytes"},
		{name: "too large, of unknown length", one: "set_json model small", two: "set_json model other", body: big, chunked: true,
			status: 413, want: "larger than 1024 bytes"},
		{name: "too large, but optional", one: "set_json model small optional", body: big,
			status: 200, want: fmt.Sprintf("one %d %s", len(big), big)},
		{name: "too large, of unknown length, but optional", one: "set_json model small optional", body: big, chunked: true,
			status: 200, want: "one -1 " + big},
		{name: "too large, skipped", one: "set_json model small", two: "", body: big, chunked: true,
			status: 200, want: "two -1 " + big},
		{name: "not JSON", one: "set_json model small", two: "set_json model other", body: `{"model":`,
			status: 415, want: "not a JSON object"},
		{name: "no object", one: "set_json model small", two: "set_json model other", body: `"model"`,
			status: 415, want: "not a JSON object"},
		{name: "not JSON, but optional", one: "set_json model small optional", body: `model=1`,
			status: 200, want: "one 7 model=1"},
		{name: "not JSON, skipped", one: "set_json model small", two: "", body: `model=1`,
			status: 200, want: "two 7 model=1"},
		{name: "cannot be set", one: "set_json list.x 1", body: `{"list":[1]}`, status: 415, want: "setting list.x"},
		{name: "cannot be set, but optional", one: "set_json list.x 1 optional", body: `{"list":[1]}`, status: 200, want: `one 12 {"list":[1]}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			apis := []*standIn{newAPI(t, "one"), newAPI(t, "two")}
			each := []string{test.one, test.two}
			for i, a := range apis {
				a.behave(a.told)
				if options, ok := strings.CutPrefix(each[i], down); ok {
					a.answer(http.StatusServiceUnavailable)
					each[i] = options
				}
			}
			p := startCaddy(t, edited(methods, apis, each...))
			var body io.Reader
			if test.body != "" {
				body = strings.NewReader(test.body)
			}
			if test.chunked {
				body = io.MultiReader(body)
			}
			resp, err := p.do(http.MethodPost, "/", body, test.header...)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			text, err := io.ReadAll(resp.Body)
			if err != nil || resp.StatusCode != test.status {
				t.Fatalf("got %d %v %.200q", resp.StatusCode, err, text)
			}
			if test.status == 200 {
				if string(text) != test.want {
					t.Errorf("got %.200q, want %.200q", text, test.want)
				}
				return
			}
			var answer struct {
				Error struct{ Message, Type string }
			}
			if err := json.Unmarshal(text, &answer); err != nil || !strings.Contains(answer.Error.Message, test.want) || answer.Error.Type == "" {
				t.Errorf("got %q (%v)", text, err)
			}
			if n := apis[0].hits.Load() + apis[1].hits.Load(); n != 0 {
				t.Errorf("endpoints were asked %d times", n)
			}
		})
	}
}

func TestSetJSONIsChecked(t *testing.T) {
	for options, want := range map[string]string{
		"set_json model":            "wrong argument count",
		"set_json model a b":        "want optional",
		"set_json model a b c":      "want optional",
		"set_json \"\" a":           "the path is missing",
		"next_on 400":               "unknown option",
		"set_json a optional maybe": "want optional",
	} {
		_, err := tryAdapt("http://:0 {\nfailover {\nendpoint http://a:1 {\n" + options + "\n}\n}\n}")
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), ":4") {
			t.Errorf("%s: %v", options, err)
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
		if u := call.NotAnObject(body); u != nil {
			if json.Valid(body) && body[0] == '{' && u.Status != http.StatusUnsupportedMediaType {
				t.Fatalf("%q: %d", body, u.Status)
			}
			return
		}
		var to target.Target
		to.SetEdits(jsonEdits([]*SetJSON{
			{Path: "model", Value: json.RawMessage(`"{user}"`)},
			{Path: "options.max", Value: json.RawMessage(`5`), Optional: true},
		}))
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
			t.Fatalf("%q: %q: model is there %d times", body, got, n)
		}
	})
}
