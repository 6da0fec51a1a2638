package api

import (
	"encoding/json"
	"reflect"
	"strconv"
	"strings"
	"testing"
)

// hostileText controls a terminal: it writes from right to left, moves the cursor, hides
// text, and breaks lines.
const hostileText = "up\u202egrade\x1b[2J\u2066x\u200b\u2028\x9b\u0085\r\nz\u0007\U000e0041"

// FuzzPrintable checks that all output is visible, that visible text stays unchanged, and
// that JSON keeps its meaning.
func FuzzPrintable(f *testing.F) {
	f.Add(hostileText)
	f.Add("plain, 中文\u3000é \\u202e")
	f.Add("\xff\xc0\xae")
	f.Fuzz(func(t *testing.T, text string) {
		for _, r := range Printable(text) {
			if !strconv.IsGraphic(r) {
				t.Fatalf("%q: %U", text, r)
			}
		}
		visible := strings.IndexFunc(text, func(r rune) bool { return !strconv.IsGraphic(r) || r == '\ufffd' }) < 0
		if visible && Printable(text) != text {
			t.Fatalf("%q became %q", text, Printable(text))
		}
		if lines := PrintableLines(text); strings.Count(lines, "\n") != strings.Count(text, "\n") {
			t.Fatalf("%q became %q", text, lines)
		}
		doc, err := json.MarshalIndent(map[string]string{text: text}, "", "\t")
		if err != nil {
			t.Fatal(err)
		}
		shown := PrintableJSON(string(doc))
		for _, r := range shown {
			if !strconv.IsGraphic(r) && r != '\n' && r != '\t' {
				t.Fatalf("%q: %U in JSON", text, r)
			}
		}
		var before, after any
		if json.Unmarshal(doc, &before) != nil || json.Unmarshal([]byte(shown), &after) != nil || !reflect.DeepEqual(before, after) {
			t.Fatalf("%q: %s became %s", text, doc, shown)
		}
	})
}
