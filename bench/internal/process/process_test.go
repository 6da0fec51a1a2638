package process

import (
	"testing"
	"time"
)

// TestGroup stops a process that has a child, and measures both.
func TestGroup(t *testing.T) {
	p, err := Start("shell", t.TempDir(), []string{"sh", "-c", "sh -c 'while :; do :; done' & wait"})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Stop()
	var pids []int
	for deadline := time.Now().Add(20 * time.Second); len(pids) < 2 || CPU(pids) < 20*time.Millisecond; {
		if time.Now().After(deadline) {
			t.Fatalf("processes %v have used %v", pids, CPU(pids))
		}
		pids = p.Members()
	}
	if now, peak := Memory(pids); now <= 0 || peak < now {
		t.Errorf("memory is %d, at most %d", now, peak)
	}
	p.Stop()
	for deadline := time.Now().Add(20 * time.Second); len(p.Members()) > 0; {
		if time.Now().After(deadline) {
			t.Fatalf("processes %v are still there", p.Members())
		}
	}
}
