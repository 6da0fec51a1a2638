package spelling

import "testing"

func TestEdits(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"", "abc", 3}, {"kitten", "sitting", 3}, {"timeuot", "timeout", 1}, {"abc", "abc", 0}, {"breker", "breaker", 1}, {"ab", "ba", 1}} {
		if got, back := edits(c.a, c.b), edits(c.b, c.a); got != c.want || back != c.want {
			t.Errorf("%s and %s: got %d and %d, want %d", c.a, c.b, got, back, c.want)
		}
	}
}

func TestNearest(t *testing.T) {
	known := []string{"timeout", "weight", "priority", "off", "consecutive_failures"}
	for word, want := range map[string]string{
		"timeuot": "timeout", "TIMEOUT": "timeout", "wieght": "weight", "of": "off", "failures": "consecutive_failures",
		"": "", "x": "", "xyzzy": "", "fail": "consecutive_failures", "fai": "",
	} {
		if got := Nearest(word, known); got != want {
			t.Errorf("%q: got %q, want %q", word, got, want)
		}
	}
}
