package jsondoc

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/tidwall/sjson"
)

func TestCheck(t *testing.T) {
	deep := func(open, middle, closing string, n int) string {
		return strings.Repeat(open, n) + middle + strings.Repeat(closing, n)
	}
	for _, test := range []struct {
		doc  string
		want error
	}{
		{`{}`, nil},
		{" [ 1 , -0.5e+7 , true , null , \"\\u00e4\\/\" , { \"a\" : [ ] } ] \n", nil},
		{deep("[", "", "]", 1000), nil},
		{deep("[", "", "]", 1001), ErrDepth},
		{deep(`{"a":`, "1", "}", 1000), nil},
		{deep(`{"a":`, "1", "}", 1001), ErrDepth},
		{deep(`[{"a":`, "1", "}]", 501), ErrDepth},
		{strings.Repeat("[", 6<<20), ErrDepth},
		{strings.Repeat(`{"a":[`, 1<<20), ErrDepth},
		{strings.Repeat("[],", 10), ErrSyntax},
		{strings.Repeat("[", 999), ErrSyntax},
		{"", ErrSyntax},
		{"[}", ErrSyntax},
		{"{]", ErrSyntax},
		{"[[}]", ErrSyntax},
		{`[{"a":1]}`, ErrSyntax},
		{"{1:2}", ErrSyntax},
		{`{"a":1,}`, ErrSyntax},
		{"[1,]", ErrSyntax},
		{"01", ErrSyntax},
		{"1.", ErrSyntax},
		{"1 2", ErrSyntax},
		{"{} x", ErrSyntax},
		{"{}\x00", ErrSyntax},
		{"\ufeff{}", ErrSyntax},
		{"\"\x1f\"", ErrSyntax},
		{"\"a\xff\"", ErrSyntax},
		{"\"\xc0\xae\"", ErrSyntax},
		{`"\u12"`, ErrSyntax},
		{`"\`, ErrSyntax},
	} {
		if err := Check([]byte(test.doc), 1000); err != test.want {
			t.Errorf("%.40q: got %v, want %v", test.doc, err, test.want)
		}
	}
}

// TestCheckTakesNoMemory checks that nesting takes one bit for each level.
func TestCheckTakesNoMemory(t *testing.T) {
	doc := []byte(strings.Repeat("[", 1000) + strings.Repeat("]", 1000))
	for _, depth := range []int{1000, 10} {
		const runs = 100
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range runs {
			_ = Check(doc, depth)
		}
		runtime.ReadMemStats(&after)
		if bytes := (after.TotalAlloc - before.TotalAlloc) / runs; bytes > 1024 {
			t.Errorf("depth %d: %d bytes", depth, bytes)
		}
	}
}

// FuzzCheck checks that Check accepts what encoding/json accepts, if it is valid UTF-8 and
// not too deep.
func FuzzCheck(f *testing.F) {
	for _, doc := range []string{`{"a":[1,2.5e-3,"\ud800\n",{}],"b":null}`, `[[[[]]]]`, "[\xff]", `{"a"`, "-", `1e5 `, `{"a":{"b":{"c":{}}}}`} {
		f.Add([]byte(doc))
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		const most = 4
		err := Check(doc, most)
		valid := json.Valid(doc) && utf8.Valid(doc)
		switch deep := valid && nesting(doc) > most; {
		case deep && err != ErrDepth, valid && !deep && err != nil, !valid && err == nil:
			t.Fatalf("%q: %v, nested %d", doc, err, nesting(doc))
		}
		if unlimited := Check(doc, len(doc)); valid != (unlimited == nil) {
			t.Fatalf("%q without a limit: %v", doc, unlimited)
		}
	})
}

// nesting returns the depth of a valid document.
func nesting(doc []byte) (most int) {
	depth := 0
	for d := json.NewDecoder(bytes.NewReader(doc)); ; {
		token, err := d.Token()
		if err != nil {
			return most
		}
		switch token {
		case json.Delim('{'), json.Delim('['):
			depth++
			most = max(most, depth)
		case json.Delim('}'), json.Delim(']'):
			depth--
		}
	}
}

func TestSet(t *testing.T) {
	for _, test := range []struct{ doc, path, want string }{
		{`{"a":1}`, "a", `{"a":"V"}`},
		{` { "a" : 1 , "b" : 2 } `, "a", ` { "a" : "V" , "b" : 2 } `},
		{`{}`, "a", `{"a":"V"}`},
		{`{ }`, "a.b", `{"a":{"b":"V"} }`},
		{`{"x":[]}`, "a", `{"x":[],"a":"V"}`},
		{`{"a":{"b":{"c":[1,{"d":2}]}}}`, "a.b.c.1.d", `{"a":{"b":{"c":[1,{"d":"V"}]}}}`},
		{`{"a":null}`, "a.b", `{"a":{"b":"V"}}`},
		{`{"a":"s"}`, "a.0.b", `{"a":[{"b":"V"}]}`},
		// twice
		{`{"a":1,"a":2}`, "a", `{"a":"V"}`},
		{`{"a":1,"b":0,"a":2}`, "a", `{"b":0,"a":"V"}`},
		{`{"a":1,"b":0,"a":2,"c":3,"a":4,"d":5}`, "a", `{"b":0,"c":3,"a":"V","d":5}`},
		{`{"a":1,"a":2,"b":0}`, "a", `{"a":"V","b":0}`},
		{"{ \"a\" : 1 ,\n \"a\" : 2 }", "a", `{ "a" : "V" }`},
		{`{"a":1,"\u0061":2}`, "a", `{"a":"V"}`},
		{`{"\u0061":2,"b":[{}]}`, "a", `{"a":"V","b":[{}]}`},
		{`{"a/b":1,"a\/b":2}`, "a/b", `{"a/b":"V"}`},
		{`{"a\"":1,"a\u0022":2}`, `a"`, `{"a\"":"V"}`},
		{`{"ä":1,"\u00e4":2}`, "ä", `{"ä":"V"}`},
		{`{"😀":1,"\ud83d\ude00":2}`, "😀", `{"😀":"V"}`},
		// alike
		{`{"model":1,"Model":2,"MODEL":3}`, "model", `{"model":"V"}`},
		{`{"Model":2}`, "model", `{"model":"V"}`},
		{`{"\u212Aey":2,"ſ":1}`, "key", `{"key":"V","ſ":1}`},
		{`{"a\u0000x":2}`, "a", `{"a":"V"}`},
		{`{"\u0000a":2}`, "a", `{"\u0000a":2,"a":"V"}`},
		// on the way
		{`{"a":{"b":1},"a":{"b":2,"c":3}}`, "a.b", `{"a":{"b":"V","c":3}}`},
		{`{"a":{"b":1,"b":2},"x":0,"\u0061":1}`, "a.b", `{"x":0,"a":{"b":"V"}}`},
		{`{"A":{"b":1,"B":2}}`, "a.b", `{"a":{"b":"V"}}`},
		{`{"m":[{"r":1,"r":2},{"r":3,"\u0072":4}],"m":[{"r":1,"R":5}]}`, "m.0.r", `{"m":[{"r":"V"}]}`},
		{`{"m":[{"r":1,"r":2},{"r":3,"\u0072":4,"q":1}]}`, "m.1.r", `{"m":[{"r":1,"r":2},{"r":"V","q":1}]}`},
		// elements
		{`{"m":[1,2]}`, "m.-1", `{"m":[1,2,"V"]}`},
		{`{"m":[]}`, "m.-1.r", `{"m":[{"r":"V"}]}`},
		{`{"m":[1]}`, "m.3", `{"m":[1,null,null,"V"]}`},
		{`{}`, "m.2", `{"m":[null,null,"V"]}`},
		{`{}`, "m.:2", `{"m":{"2":"V"}}`},
		{`{"m":{}}`, "m.2", `{"m":{"2":"V"}}`},
		{`{"m":{"-1":0}}`, "m.-1", `{"m":{"-1":"V"}}`},
		{`{}`, `a\.b.c\*`, `{"a.b":{"c*":"V"}}`},
		// what gjson would take for queries
		{`{"":{"b":1}}`, "[a.b", `{"":{"b":1},"[a":{"b":"V"}}`},
		{`{"{a":0}`, "{a", `{"{a":"V"}`},
		{`{"!a":0}`, "!a", `{"!a":"V"}`},
		// refused
		{`{"m":[1]}`, "m.x", ""},
		{`{"m":[1]}`, "m.:0", ""},
		{`{}`, "m.*", ""},
		{`{}`, "m.#.x", ""},
		{`{}`, "a|b", ""},
		{`{}`, "a.@reverse", ""},
		{`{}`, "a?", ""},
		{`{}`, "a..b", ""},
		{`{}`, "a.", ""},
		{`{}`, ":", ""},
		{`{}`, `a\`, ""},
		{`{}`, "a.1001", ""},
		{`{}`, "a.99999999999999999999", ""},
	} {
		doc := []byte(test.doc)
		path, err := ParsePath(test.path)
		var got []byte
		if err == nil {
			got, err = Set(doc, path, []byte(`"V"`))
		}
		if string(got) != test.want || (err != nil) != (test.want == "") {
			t.Errorf("%s in %s: got %s (%v), want %s", test.path, test.doc, got, err, test.want)
		}
		if string(doc) != test.doc {
			t.Errorf("%s in %s: the document was changed", test.path, test.doc)
		}
	}
}

// FuzzSet checks that every reader finds only the new value, that everything else stays,
// and that the result equals sjson's for documents without ambiguous names.
func FuzzSet(f *testing.F) {
	for _, doc := range []string{`{"a":1,"\u0061":2,"A":{"b":1}}`, `{"a":{"b":[1,{"c":2,"c":3}]}}`, ` { "x" : [ ] , "a":null}`,
		`{"a":[{"b":1},{"b":2,"B":[]}],"a":{}}`, `{"b":"\\\"}","a":"{"}`} {
		for _, path := range []string{"a", "a.b", "a.1.b", "a.-1", "a.:0", `a\.b`, "a.b.1.c", `[a.b"`, "{a.b", "!a"} {
			f.Add([]byte(doc), path)
		}
	}
	f.Fuzz(func(t *testing.T, doc []byte, text string) {
		path, err := ParsePath(text)
		if err != nil || !utf8.ValidString(text) || Check(doc, 50) != nil || !IsObject(doc) {
			return
		}
		const value = `"the value"`
		got, err := Set(doc, path, []byte(value))
		if err != nil {
			return
		}
		if err := Check(got, 50+len(path)); err != nil {
			t.Fatalf("%q in %q: %q: %v", text, doc, got, err)
		}
		requireOnly(t, got, path, value)
		requireRest(t, doc, got, path)
		again, err := Set(got, path, []byte(value))
		if err == nil && !bytes.Equal(again, got) && !appends(path) {
			t.Fatalf("%q in %q: set twice it is %q, not %q", text, doc, again, got)
		}
		// sjson takes a part that begins with one of [{! for a query of gjson's.
		if plain(doc) && plain([]byte(text)) && !strings.ContainsAny(text, ":[{!") && !appends(path) {
			want, err := sjson.SetRawBytes(doc, text, []byte(value))
			if err == nil && !reflect.DeepEqual(decode(t, want), decode(t, got)) {
				t.Fatalf("%q in %q: %q, but by sjson %q", text, doc, got, want)
			}
		}
	})
}

// plain reports whether every name in a document has one spelling and is unique.
func plain(doc []byte) bool {
	if bytes.ContainsAny(doc, `\`) || bytes.IndexByte(doc, 0) >= 0 || len(doc) != len([]rune(string(doc))) || !bytes.Equal(doc, bytes.ToLower(doc)) {
		return false
	}
	seen := map[string]bool{}
	for _, part := range bytes.Split(bytes.ToLower(doc), []byte(`"`)) {
		if len(part) > 0 && seen[string(part)] && !bytes.ContainsAny(part, ":,{}[]") {
			return false
		}
		seen[string(part)] = true
	}
	return true
}

func decode(t *testing.T, doc []byte) (value any) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(doc))
	d.UseNumber()
	if err := d.Decode(&value); err != nil {
		t.Fatalf("%q: %v", doc, err)
	}
	return value
}

// appends reports whether setting twice appends two elements.
func appends(path Path) bool {
	for _, s := range path {
		if s.number && s.index < 0 {
			return true
		}
	}
	return false
}

// requireOnly follows the path like a reader that stops at every member with the name.
func requireOnly(t *testing.T, doc []byte, path Path, value string) {
	t.Helper()
	at := doc
	for _, s := range path {
		var found []byte
		if IsObject(at) {
			n := 0
			for name, v := range Members(at) {
				before, _, _ := strings.Cut(name, "\x00")
				if name == s.name || strings.EqualFold(before, s.name) {
					n++
					found = v
				}
			}
			if n != 1 {
				t.Fatalf("%q: %d times %q", doc, n, s.name)
			}
		} else {
			var all []json.RawMessage
			if err := json.Unmarshal(at, &all); err != nil {
				t.Fatalf("%q: %v", doc, err)
			}
			i := s.index
			if i < 0 {
				i = len(all) - 1
			}
			found = all[i]
		}
		at = found
	}
	if string(at) != value {
		t.Fatalf("%q: %q is there", doc, at)
	}
}

// requireRest checks that the members beside the first step of the path have not changed.
func requireRest(t *testing.T, doc, got []byte, path Path) {
	t.Helper()
	rest := func(doc []byte) (all []string) {
		for name, value := range Members(doc) {
			if before, _, _ := strings.Cut(name, "\x00"); name != path[0].name && !strings.EqualFold(before, path[0].name) {
				all = append(all, fmt.Sprintf("%q: %s", name, value))
			}
		}
		return all
	}
	if before, after := rest(doc), rest(got); !reflect.DeepEqual(before, after) {
		t.Fatalf("%q became %q", doc, got)
	}
}

func TestMembers(t *testing.T) {
	doc := []byte(` {"a" : [1, {"b":"}"}] , "\u0061":"x\"y", "" :null} `)
	if err := Check(doc, 10); err != nil {
		t.Fatal(err)
	}
	var got []string
	for name, value := range Members(doc) {
		got = append(got, name+"="+string(value))
	}
	if want := []string{`a=[1, {"b":"}"}]`, `a="x\"y"`, "=null"}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %q", got)
	}
	for range Members([]byte("{}")) {
		t.Error("a member of nothing")
	}
}

func BenchmarkCheck(b *testing.B) {
	doc := []byte(`{"model":"m","messages":[` + strings.Repeat(`{"role":"user","content":"`+strings.Repeat("some words ", 50)+`"},`, 100) + `1]}`)
	b.SetBytes(int64(len(doc)))
	for b.Loop() {
		if err := Check(doc, 1000); errors.Is(err, ErrSyntax) {
			b.Fatal(err)
		}
	}
}
