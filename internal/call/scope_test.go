package call

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestShownScope(t *testing.T) {
	for name, want := range map[string]string{
		"":                            "",
		"gpt-4o":                      "gpt-4o",
		" gpt-4o\n":                   "gpt-4o",
		"模型":                          "模型",
		"a\x1b[2Jb":                   "a\ufffd[2Jb",
		"a\u202eb":                    "a\ufffdb",
		"a\xffb":                      "a\ufffdb",
		strings.Repeat("x", 100):      strings.Repeat("x", 64),
		strings.Repeat("模", 50):       strings.Repeat("模", 21),
		"x" + strings.Repeat("é", 50): "x" + strings.Repeat("é", 31),
		strings.Repeat("\x00", 80):    strings.Repeat("\ufffd", 21),
		strings.Repeat("\xff", 80):    strings.Repeat("\ufffd", 21),
	} {
		got := shownScope(name)
		if got != want || len(got) > longestScope || !utf8.ValidString(got) {
			t.Errorf("%q became %q, want %q", name, got, want)
		}
	}
}
