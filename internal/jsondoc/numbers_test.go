package jsondoc

import (
	"bytes"
	"strings"
	"testing"
)

var numberPaths = [][]string{{"usage", "total"}, {"response", "usage", "total"}, {"n"}}

func found(n *Numbers) (all [3]int64) {
	for i := range all {
		all[i], _ = n.Largest(i)
	}
	return all
}

func TestNumbers(t *testing.T) {
	for _, test := range []struct {
		doc  string
		want [3]int64
	}{
		{`{"usage":{"total":12}}`, [3]int64{12, -1, -1}},
		{` { "usage" : { "a" : [ { "total" : 9 } ] , "total" : 12 } , "n":3 }`, [3]int64{12, -1, 3}},
		{`{"n":1,"response":{"usage":{"total":5,"other":{"total":6}}}}`, [3]int64{-1, 5, 1}},
		{`[{"n":1},{"n":4},{"n":2}]`, [3]int64{-1, -1, 4}},
		{"{\"n\":1}\n{\"n\":7}\n", [3]int64{-1, -1, 7}},
		{`{"x":"\"usage\":{\"total\":1}","usage":null,"n":null}`, [3]int64{-1, -1, -1}},
		{`{"x":["usage",{"usage":{"total":1}}],"y":{"usage":{"total":1}},"y":{"n":1}}`, [3]int64{-1, -1, -1}},
		{`{"usage":[{"total":1}],"n":[5]}`, [3]int64{-1, -1, -1}},
		{`{"usage":{"total":"12"},"n":1.5}`, [3]int64{-1, -1, -1}},
		{`{"usage":{"total":-12},"n":1e3}`, [3]int64{-1, -1, -1}},
		{`{"usage":{"total":99999999999999999999},"n":0}`, [3]int64{-1, -1, 0}},
		{`{"a":{"b":{"c":{"d":{"e":{"usage":{"total":1}}}}}},"usage":{"total":2}}`, [3]int64{2, -1, -1}},
		{`{"usage\u0000":{"total":1},"` + strings.Repeat("x", 100) + `":{"total":1},"usage":{"total":3}}`, [3]int64{3, -1, -1}},
		{`}}]]{"usage":{"total":3}}`, [3]int64{3, -1, -1}},
		{`not JSON: 12 "n": 3`, [3]int64{-1, -1, -1}},
	} {
		for size := 1; size <= len(test.doc); size++ {
			n := NewNumbers(numberPaths)
			for i := 0; i < len(test.doc); i += size {
				n.Add([]byte(test.doc[i:min(i+size, len(test.doc))]))
			}
			if got := found(n); got != test.want {
				t.Errorf("%s, %d bytes at a time: %v, want %v", test.doc, size, got, test.want)
				break
			}
		}
	}
}

func TestNumbersRestart(t *testing.T) {
	n := NewNumbers(numberPaths)
	n.Add([]byte(`{"usage":{"total":1},"x":{"y":["`))
	n.Restart()
	n.Add([]byte(`{"n":2}`))
	if got := found(n); got != [3]int64{1, -1, 2} {
		t.Errorf("%v", got)
	}
}

// FuzzNumbers: whatever comes, in whatever pieces, gives the same numbers, and a document gives those that Find finds.
func FuzzNumbers(f *testing.F) {
	f.Add([]byte(`{"usage":{"total":12}}`), uint8(3))
	f.Add([]byte(`[{"n":1},[{"n":2}]]`), uint8(1))
	f.Add([]byte(`{"a":"\\\"","n":2}`), uint8(2))
	f.Fuzz(func(t *testing.T, doc []byte, size uint8) {
		n, whole := NewNumbers(numberPaths), NewNumbers(numberPaths)
		whole.Add(doc)
		step := max(1, int(size))
		for i := 0; i < len(doc); i += step {
			n.Add(doc[i:min(i+step, len(doc))])
		}
		if found(n) != found(whole) {
			t.Fatalf("in pieces %v, at once %v", found(n), found(whole))
		}
		if Check(doc, MaxDepth) != nil || bytes.ContainsRune(doc, '\\') || !bytes.HasPrefix(bytes.TrimSpace(doc), []byte("{")) {
			return
		}
		for i, path := range numberPaths {
			value, is := Find(doc, Named(path...), true)
			number, ok := wholeNumber(value)
			if got, some := n.Largest(i); is == Here && ok && (!some || got < number) {
				t.Fatalf("%v is %s, got %d", path, value, got)
			}
		}
	})
}

func BenchmarkNumbers(b *testing.B) {
	for name, doc := range map[string]string{
		"text":   `{"choices":[{"message":{"content":"` + strings.Repeat("word after word, ", 4000) + `"}}],"usage":{"total":12}}`,
		"chunks": strings.Repeat(`{"id":"x","object":"chat.completion.chunk","created":1700000000,"choices":[{"index":0,"delta":{"content":" word"}}]}`+"\n", 500),
		"floats": `{"data":[` + strings.Repeat("-0.0123456,", 6000) + `0],"usage":{"total":12}}`,
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(doc)))
			b.ReportAllocs()
			body := []byte(doc)
			n := NewNumbers(numberPaths)
			for b.Loop() {
				n.Add(body)
			}
		})
	}
}
