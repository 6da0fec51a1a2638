package jsondoc

import (
	"bytes"
	"encoding/json"
	"testing"
)

func TestFind(t *testing.T) {
	for _, test := range []struct {
		doc, path string
		whole     bool
		want      string
		found     Found
	}{
		{`{"a":1}`, "a", true, "1", Here},
		{`{"a":1`, "a", false, "", Later}, // it may go on
		{`{"a":1,`, "a", false, "1", Here},
		{`{"a":"x"`, "a", false, `"x"`, Here},
		{`{"a":"x`, "a", false, "", Later},
		{`{"a":"x`, "a", true, "", Absent},
		{` { "\u0061" : { "b" : [ 1 , [2] , {"c":null} ] } }`, "a.b.2.c", true, "null", Here},
		{`{"a":{"b":[1,[2],{"c":null}]}}`, "a.b.1", true, "[2]", Here},
		{`{"a":[1,2`, "a.3", false, "", Later},
		{`{"a":[1,2]`, "a.3", false, "", Absent},
		{`{"a":[]`, "a.0", false, "", Absent},
		{`{"a":[1]`, "a.-1", false, "", Absent},
		{`{"a":[1]`, "a.b", false, "", Absent},
		{`{"a":{"1":2}}`, "a.1", true, "2", Here},
		{`{"a":1,"a":2}`, "a", true, "1", Here},
		{`{"b":1}`, "a", true, "", Absent},
		{`{"b":1}`, "a", false, "", Absent},
		{`{"b":1`, "a", false, "", Later},
		{`{"b" 1}`, "b", false, "", Absent},
		{`{1:2}`, "b", false, "", Absent},
		{`{"a":}`, "a", true, "", Absent},
		{`{"a":`, "a", false, "", Later},
		{`"a"`, "a", true, "", Absent},
		{``, "a", false, "", Later},
		{``, "a", true, "", Absent},
	} {
		path, err := ParsePath(test.path)
		if err != nil {
			t.Fatal(err)
		}
		if value, found := Find([]byte(test.doc), path, test.whole); string(value) != test.want && found == Here || found != test.found {
			t.Errorf("%s at %s: %q, %d", test.doc, test.path, value, found)
		}
	}
}

// FuzzFind: what the beginning of a document tells is what all of it tells, and of a checked one that is what
// encoding/json finds there.
func FuzzFind(f *testing.F) {
	f.Add([]byte(`{"a":{"b":[1,{"a":"x\"]"}]},"b":null}`), uint8(9))
	f.Add([]byte(`[{"a":1},{"b":[]} ,3]`), uint8(1))
	f.Add([]byte(`{"a":`), uint8(0))
	f.Fuzz(func(t *testing.T, doc []byte, cut uint8) {
		begin := doc[:int(cut)%(len(doc)+1)]
		for _, text := range []string{"a", "a.b", "b.1.a", "0.a", "a.b.0"} {
			path, _ := ParsePath(text)
			value, found := Find(doc, path, true)
			if early, known := Find(begin, path, false); known != Later && (known != found || !bytes.Equal(early, value)) {
				t.Fatalf("%q at %s: %q (%d), and of its beginning %q: %q (%d)", doc, text, value, found, begin, early, known)
			}
			if found == Here && Check(doc, MaxDepth) == nil && !json.Valid(value) {
				t.Fatalf("%q at %s: %q", doc, text, value)
			}
		}
		list, _ := Elements(doc, true)
		early, over := Elements(begin, false)
		if len(early) > len(list) || over && len(early) != len(list) {
			t.Fatalf("%q has %d elements, its beginning %q %d", doc, len(list), begin, len(early))
		}
	})
}

// TestBegin: a value has begun before it is complete.
func TestBegin(t *testing.T) {
	for _, test := range []struct {
		doc   string
		whole bool
		at    int
		found Found
	}{
		{`{"a":1,"error": {"co`, false, 16, Here},
		{`{"a":1,"error":`, false, 0, Later},
		{`{"a":1,"err`, false, 0, Later},
		{`{"a":1}`, true, 0, Absent},
	} {
		if at, found := Begin([]byte(test.doc), Named("error"), test.whole); at != test.at || found != test.found {
			t.Errorf("%s: %d, %d", test.doc, at, found)
		}
	}
}
