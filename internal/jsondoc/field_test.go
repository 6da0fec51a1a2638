package jsondoc

import (
	"strings"
	"testing"
)

func TestField(t *testing.T) {
	for _, test := range []struct{ path, doc, want string }{
		{"model", `{"model":"a"}`, "a"},
		{"model", ` { "messages" : [{"model":"b"}] , "model" : "a" } `, "a"},
		{"model", `{"prompt":"` + strings.Repeat(`\"model\":`, 1000) + `","model":"a"}`, "a"},
		{"model", `{"mod\u0065l":"a"}`, "a"},
		{"model", `{"model":"\u00e4"}`, "ä"},
		{"model", `{"model":7}`, "7"},
		{"model", `{"model":null}`, ""},
		{"model", `{"model":["a", 1]}`, `["a", 1]`},
		{"model", `{}`, ""},
		{"model", `[{"model":"a"}]`, ""},
		{"model", ``, ""},
		{"model", `no JSON`, ""},
		{"a.b", `{"a":{"b":"c"}}`, "c"},
		{"a.1.b", `{"a":[0,{"b":"c"}]}`, "c"},
		{"0.method", `[{"method":"m"}]`, "m"},
		{`a\.b`, `{"a.b":"c"}`, "c"},
		{`a\*`, `{"ab":"no","a*":"c"}`, "c"},
		{`[a`, `{"[a":"c"}`, "c"},
		{`{a`, `{"{a":"c"}`, "c"},
		{`!a`, `{"!a":"c"}`, "c"},
		{`\@this`, `{"@this":"c"}`, "c"},
	} {
		field, err := ParseField(test.path)
		if err != nil {
			t.Errorf("%s: %v", test.path, err)
			continue
		}
		if got := field.In([]byte(test.doc)); got != test.want {
			t.Errorf("%s in %.60s: got %q, want %q", test.path, test.doc, got, test.want)
		}
	}
	for _, path := range []string{"", "a.", "a.*", "@this", "a.-1", "a.#"} {
		if _, err := ParseField(path); err == nil {
			t.Errorf("%q was taken for a field", path)
		}
	}
}

// FuzzField checks that no input makes a read panic or recurse.
func FuzzField(f *testing.F) {
	for _, doc := range []string{`{"a":{"b":[1,{"c":"d"}]}}`, `{"a":`, strings.Repeat(`{"a":`, 100), "[\xff", `{"a\`} {
		for _, path := range []string{"a", "a.b.1.c", `a\.b`, "[a", "0"} {
			f.Add(path, []byte(doc))
		}
	}
	f.Fuzz(func(t *testing.T, path string, doc []byte) {
		field, err := ParseField(path)
		if err != nil {
			return
		}
		_ = field.In(doc)
	})
}

// TestFieldOfDeepJSON checks that deep nesting takes no stack.
func TestFieldOfDeepJSON(t *testing.T) {
	field, err := ParseField("a")
	if err != nil {
		t.Fatal(err)
	}
	const deep = 5 << 20
	for _, doc := range []string{
		`{"b":` + strings.Repeat("[", deep) + strings.Repeat("]", deep) + `,"a":"c"}`,
		`{"b":` + strings.Repeat(`{"a":`, deep/5) + "1" + strings.Repeat("}", deep/5) + `,"a":"c"}`,
	} {
		if got := field.In([]byte(doc)); got != "c" {
			t.Errorf("got %.20q", got)
		}
	}
}

func TestFieldInEach(t *testing.T) {
	field, err := ParseField("method")
	if err != nil {
		t.Fatal(err)
	}
	for doc, want := range map[string]string{
		`{"method":"a"}`: "a",
		` [{"method":"a"},{"id":2,"method":"a"}]`:    "a",
		`[{"method":"a"},{"method":"b"}]`:            "mixed",
		`[{"method":"a"},{"id":2},7,{"method":"a"}]`: "a",
		`[]`: "", `[1]`: "", `[`: "", ``: "",
	} {
		if got := field.InEach([]byte(doc), "mixed"); got != want {
			t.Errorf("%s: got %q, want %q", doc, got, want)
		}
	}
	if first, _ := ParseField("0.method"); first.InEach([]byte(`[{"method":"a"},{"method":"b"}]`), "mixed") != "a" {
		t.Error("a path that begins with an index is not that of each element")
	}
}

// FuzzTopText wants the short way to find what the long one does, in every document that is JSON.
func FuzzTopText(f *testing.F) {
	for _, doc := range []string{`{"a":"b"}`, ` {"x":{"a":"no"},"y":["a",":"], "a" : "b\"c"}`, `{"x":"\\","a":"b"}`, `{"x":"\\\"a","a":"b"}`, `{"\u0061":"b","a":"c"}`, `{"a":1}`, `{"a":"","a":"c"}`, `[{"a":"b"}]`} {
		f.Add([]byte(doc))
	}
	field, err := ParseField("a")
	if err != nil {
		f.Fatal(err)
	}
	long := Field{query: field.query}
	f.Fuzz(func(t *testing.T, doc []byte) {
		if Check(doc, MaxDepth) != nil {
			_ = field.In(doc) // must not panic
			return
		}
		if got, want := field.In(doc), long.In(doc); got != want {
			t.Errorf("%q: got %q, want %q", doc, got, want)
		}
	})
}
