package failover

import (
	"net/http"
	"testing"
	"time"
)

// TestGrayFailureEndToEnd lets the primary go from 2 ms to 700 ms, or hang, for
// 8 s of 200 calls a second, through a real Caddy.
func TestGrayFailureEndToEnd(t *testing.T) {
	for _, gray := range []struct {
		name string
		wait time.Duration
	}{{"slow", 700 * time.Millisecond}, {"hangs", time.Hour}} {
		t.Run(gray.name, func(t *testing.T) {
			one, two, three := newAPI(t, "one"), newAPI(t, "two"), newAPI(t, "three")
			taking := func(a *api, d time.Duration) http.HandlerFunc {
				return func(w http.ResponseWriter, r *http.Request) {
					if pauseFor(r.Context(), d) == nil {
						a.fine(w, r)
					}
				}
			}
			for _, a := range []*api{one, two, three} {
				a.behave(taking(a, 2*time.Millisecond))
			}
			p := startCaddy(t, site("breaker {\nopen_for 1s\nopen_max 4s\n}", one, two, three))
			warm := p.startLoad(200, http.MethodGet, "/", "")
			lasting(2 * time.Second)
			warm.stop()
			primary := stateOf(t, "api", "one")
			before := primary.totalsNow().Attempts
			one.behave(taking(one, gray.wait))
			l := p.startLoad(200, http.MethodGet, "/", "")
			lost := eventually(t, 5*time.Second, "the primary is out", func() bool { return primary.breakerNow() == stateOpen })
			lasting(8*time.Second - lost)
			l.stop()
			attempts := primary.totalsNow().Attempts - before
			slow := 0
			for _, took := range l.times {
				if took > 100*time.Millisecond {
					slow++
				}
			}
			part := 100 * float64(slow) / float64(len(l.times))
			t.Logf("out after %v; %d of %d calls (%.1f %%) took over 100 ms, %d failed; the primary got %d; p50 %v, p99 %v",
				lost, slow, len(l.times), part, l.failed, attempts, l.quantile(0.5), l.quantile(0.99))
			if lost > 500*time.Millisecond {
				t.Errorf("lost its traffic after %v only", lost)
			}
			if part >= 8 || l.failed > 0 {
				t.Errorf("%.1f %% of the calls took over 100 ms, %d failed: %q", part, l.failed, l.errors)
			}
			one.behave(taking(one, 2*time.Millisecond))
			l = p.startLoad(200, http.MethodGet, "/", "")
			back := eventually(t, 20*time.Second, "the primary has its full share again", func() bool {
				return primary.breakerNow() == stateClosed && shareOf(t, "api", "one") > 0.99
			})
			l.stop()
			t.Logf("back after %v", back)
			if l.failed > 0 {
				t.Errorf("%d calls failed on the way back", l.failed)
			}
		})
	}
}
