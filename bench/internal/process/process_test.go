package process

import (
	"errors"
	"net"
	"sync"
	"testing"
	"time"
)

// TestFreePort wants each port once, also from callers at the same time.
func TestFreePort(t *testing.T) {
	const callers, each = 8, 50
	var mu sync.Mutex
	seen := make(map[int]bool)
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for range each {
				port, err := FreePort()
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				seen[port] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if len(seen) != callers*each {
		t.Errorf("%d ports for %d calls", len(seen), callers*each)
	}
}

// TestAwait waits for a process that ends while another one has its port.
func TestAwait(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	p, err := Start("shell", t.TempDir(), []string{"false"})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Stop()
	<-p.done
	if err := p.Await(t.Context(), l.Addr().String()); !errors.Is(err, ErrEnded) {
		t.Errorf("waiting for a process that has ended: %v", err)
	}
}

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
	p.Kill()
	p.Stop() // does nothing
	for deadline := time.Now().Add(20 * time.Second); len(p.Members()) > 0; {
		if time.Now().After(deadline) {
			t.Fatalf("processes %v are still there", p.Members())
		}
	}
}
