package soak

import (
	"testing"
	"time"
)

func TestStalls(t *testing.T) {
	var s stalls
	now := time.Now()
	if s.explains(now) {
		t.Error("a stall before any is noted")
	}
	s.note(stallIs-1, now)
	if s.explains(now) {
		t.Error("a short delay counts")
	}
	s.note(stallIs, now)
	if !s.explains(now.Add(stallLasts-1)) || s.explains(now.Add(stallLasts)) || s.count.Load() != 1 {
		t.Error("a stall explains what fails within stallLasts, and nothing else")
	}
}
