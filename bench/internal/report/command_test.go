package report

import "testing"

// TestReplace replaces one section, and keeps the rest of the page.
func TestReplace(t *testing.T) {
	s := &summary{text: "a\n<!-- x: begin -->\nold\n<!-- x: end -->\nb\n"}
	if err := s.replace("x", "\n\nnew\n\n\n\nrow\n"); err != nil {
		t.Fatal(err)
	}
	if want := "a\n<!-- x: begin -->\n\nnew\n\nrow\n\n<!-- x: end -->\nb\n"; s.text != want {
		t.Errorf("got %q, want %q", s.text, want)
	}
	if err := s.replace("y", "new"); err == nil {
		t.Error("a section that is not there was replaced")
	}
}
