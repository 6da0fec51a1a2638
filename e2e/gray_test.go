package e2e

import (
	"net/http"
	"testing"
	"time"
)

// TestGrayFailure has the primary's latency grow from 2 ms to 700 ms, or has it hang, under 200 calls a second. It must
// lose its traffic before many calls are slow, no call may fail, and it must get its traffic back when it is fast
// again.
func TestGrayFailure(t *testing.T) {
	for name, wait := range map[string]time.Duration{"slow": 700 * time.Millisecond, "hangs": time.Hour} {
		apart(t, name, func(t *testing.T) {
			apis := newAPIs(t, "one", "two", "three")
			for _, a := range apis {
				a.behave(delayed(2*time.Millisecond, a.fine))
			}
			one := apis[0]
			p := startCaddy(t, site("breaker {\nopen_for 1s\nopen_max 4s\nstep 200ms\n}", apis...))
			warm := p.startLoad(200, http.MethodGet, "")
			warm.await(400)
			warm.stop()
			warm.wantNoFailure()
			before := p.one("one").Attempts
			one.behave(delayed(wait, one.fine))
			l := p.startLoad(200, http.MethodGet, "")
			lost := p.becomes("one", "open")
			calls := l.answered()
			l.await(800)
			l.stop()
			l.wantNoFailure()
			attempts, slow, all := p.one("one").Attempts-before, l.longer(350*time.Millisecond), l.answered()
			t.Logf("out after %v and %d calls; %d of %d calls took over 350 ms; the primary got %d; p50 %v, p99 %v",
				lost, calls, slow, all, attempts, l.quantile(0.5), l.quantile(0.99))
			if attempts > 128 {
				t.Errorf("the primary got %d of %d calls", attempts, all)
			}
			if slow*12 > all {
				t.Errorf("%d of %d calls took over 350 ms", slow, all)
			}
			one.behave(delayed(2*time.Millisecond, one.fine))
			l = p.startLoad(200, http.MethodGet, "")
			back := p.back("api", "one")
			l.stop()
			l.wantNoFailure()
			t.Logf("back after %v", back)
		})
	}
}
