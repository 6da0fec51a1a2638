package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"
)

// told answers with the request's body.
func told(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	_, _ = w.Write(body)
}

// TestSetJSONOfDeepBodies checks that a body that is nested too deeply takes little more memory than its size, gets
// 415, and reaches no endpoint.
func TestSetJSONOfDeepBodies(t *testing.T) {
	one := newAPI(t, "one")
	one.behave(told)
	p := startCaddy(t, edited("api", "retry {\n\t\tbuffer 16MiB\n\t}", []*api{one}, "set_json model small"))
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
			t.Errorf("%s: %d MiB were allocated for a body of %d MiB", name, used>>20, len(body)>>20)
		}
	}
	if n := one.hits.Load(); n != 0 {
		t.Errorf("the endpoint got %d requests", n)
	}
	fits := `{"a":` + strings.Repeat("[", 999) + strings.Repeat("]", 999) + "}"
	if got := p.call(http.MethodPost, "/", fits); got.status != 200 || !strings.Contains(got.body, `"model":"small"`) {
		t.Errorf("1000 deep: got %d %.100q", got.status, got.body)
	}
}

// allocated returns how many bytes the process has allocated on the heap, including freed ones.
func allocated() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}

// A member is a member of a JSON object.
type member struct{ name, value string }

// members returns all members of an object, including duplicates, with decoded names and raw values.
func members(object string) (list []member, err error) {
	decoder := json.NewDecoder(strings.NewReader(object))
	if token, err := decoder.Token(); err != nil || token != json.Delim('{') {
		return nil, fmt.Errorf("reading an object: got %v, %v", token, err)
	}
	for decoder.More() {
		name, err := decoder.Token()
		if err != nil {
			return nil, err
		}
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil {
			return nil, err
		}
		list = append(list, member{name.(string), string(value)})
	}
	if _, err := decoder.Token(); err != nil {
		return nil, err
	}
	if _, err := decoder.Token(); err != io.EOF {
		return nil, fmt.Errorf("something follows the object: %v", err)
	}
	return list, nil
}

// TestSetJSONIsNotBypassed checks that the edited body has each set member exactly once, whatever duplicates or escapes
// the client sends, and that a body which could be read in two ways is refused.
func TestSetJSONIsNotBypassed(t *testing.T) {
	one := newAPI(t, "one")
	one.behave(told)
	p := startCaddy(t, edited("api", retrying, []*api{one}, "set_json model small\nset_json options.max 5\nset_json messages.0.role user"))
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
		list, err := members(got.body)
		if err != nil {
			t.Errorf("%s: got %s: %v", body, got.body, err)
		}
		for _, m := range list {
			want := map[string]string{"model": `"small"`, "options": `{"max":5}`, "messages": `[{"role":"user"}]`}[m.name]
			if m.value != want {
				t.Errorf("%s: %s is %s", body, m.name, m.value)
			}
		}
		if len(list) != 3 {
			t.Errorf("%s: got %s", body, got.body)
		}
	}
	before := one.hits.Load()
	for _, body := range []string{"{\"model\":\"a\",\"mo\xffdel\":\"b\"}", "\xff\xfe{\x00}\x00", "\ufeff{}"} {
		if got := p.call(http.MethodPost, "/", body); got.status != http.StatusUnsupportedMediaType {
			t.Errorf("%q: got %d", body, got.status)
		}
	}
	if n := one.hits.Load() - before; n != 0 {
		t.Errorf("the endpoint got %d requests whose body cannot be edited", n)
	}
}

// toldLength answers with the endpoint's name, and the request's Content-Length and body.
func (a *api) toldLength(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	fmt.Fprintf(w, "%s %d %s", a.name, r.ContentLength, body)
}

func TestSetJSON(t *testing.T) {
	const methods = "retry {\n\t\tmethods any\n\t\tbuffer 1KiB\n\t}"
	const down = "down"
	big := `{"model":"m","pad":"` + strings.Repeat("x", 2000) + `"}`
	fits := `{"model":"m","pad":"` + strings.Repeat("x", 1024-len(`{"model":"m","pad":""}`)) + `"}`
	for _, test := range []struct {
		name     string
		one, two string // options of the endpoints; down: the endpoint fails
		body     string
		chunked  bool
		header   []string
		status   int
		want     string
	}{
		{name: "sets", one: "set_json model small", two: "", body: `{"model":"m", "n":1}`,
			status: 200, want: `one 24 {"model":"small", "n":1}`},
		{name: "adds missing members", one: "set_json options.seed 7\nset_json stream true", body: `{"model":"m"}`,
			status: 200, want: `one 48 {"model":"m","options":{"seed":7},"stream":true}`},
		{name: "of unknown length", one: "set_json model small", body: `{"model":"m"}`, chunked: true,
			status: 200, want: `one 17 {"model":"small"}`},
		{name: "each endpoint its own", one: down + "\nset_json model small", two: "set_json model other", body: `{"model":"m"}`,
			status: 200, want: `two 17 {"model":"other"}`},
		{name: "the next endpoint gets the original", one: down + "\nset_json model small", two: "", body: `{"model":"m"}`,
			status: 200, want: `two 13 {"model":"m"}`},
		{name: "after an endpoint that gets the original", one: down, two: "set_json model small", body: `{"model":"m"}`,
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
			apis := []*api{newAPI(t, "one"), newAPI(t, "two")}
			each := []string{test.one, test.two}
			for i, a := range apis {
				a.behave(a.toldLength)
				if options, ok := strings.CutPrefix(each[i], down); ok {
					a.answer(http.StatusServiceUnavailable)
					each[i] = options
				}
			}
			p := startCaddy(t, edited("api", methods, apis, each...))
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
				t.Errorf("endpoints got %d requests", n)
			}
		})
	}
}
