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

// told answers with what the endpoint was sent.
func told(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	_, _ = w.Write(body)
}

// TestSetJSONOfDeepBodies: whatever the buffer, a body that is nested too deeply costs its own size, and is a
// 415 that no endpoint hears of.
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
			t.Errorf("%s: %d MiB were allocated for %d MiB", name, used>>20, len(body)>>20)
		}
	}
	if n := one.hits.Load(); n != 0 {
		t.Errorf("the endpoint was asked %d times", n)
	}
	fits := `{"a":` + strings.Repeat("[", 999) + strings.Repeat("]", 999) + "}"
	if got := p.call(http.MethodPost, "/", fits); got.status != 200 || !strings.Contains(got.body, `"model":"small"`) {
		t.Errorf("1000 deep: got %d %.100q", got.status, got.body)
	}
}

// allocated is how many bytes have been allocated on the heap, ever.
func allocated() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}

// A member is one of a JSON object.
type member struct{ name, value string }

// members are all of an object, those of the same name too, with their names decoded and their values as
// they stand.
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

// TestSetJSONIsNotBypassed: an endpoint finds what is set, however it reads JSON.
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
	asked := one.hits.Load()
	for _, body := range []string{"{\"model\":\"a\",\"mo\xffdel\":\"b\"}", "\xff\xfe{\x00}\x00", "\ufeff{}"} {
		if got := p.call(http.MethodPost, "/", body); got.status != http.StatusUnsupportedMediaType {
			t.Errorf("%q: got %d", body, got.status)
		}
	}
	if n := one.hits.Load() - asked; n != 0 {
		t.Errorf("the endpoint was asked %d times for what cannot be edited", n)
	}
}
