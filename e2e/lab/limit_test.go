package lab

import (
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestALimitUsesWhatIsGranted checks that a provider that grants 600 requests a minute refuses no call,
// and gives at least 97 % of its grant, under 20 calls a second.
func TestALimitUsesWhatIsGranted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const grant = 600
		l := openLab(t, "failover {\nname lab\nendpoint http://granted:1 {\nlimit 600 requests per 1m\n}\nendpoint http://next:1\nquota endpoint\n}")
		defer l.close()
		var mu sync.Mutex
		var served []time.Time
		refused := 0
		l.on("granted:1", func(r *http.Request) (*http.Response, error) {
			mu.Lock()
			defer mu.Unlock()
			now := time.Now()
			last := 0
			for i := len(served) - 1; i >= 0 && now.Sub(served[i]) < time.Minute; i-- {
				last++
			}
			if last >= grant {
				refused++
				return respond(r, http.StatusTooManyRequests, ""), nil
			}
			served = append(served, now)
			return respond(r, http.StatusOK, ""), nil
		})
		const minutes = 5
		if s := l.load(20, minutes*time.Minute); s.failed > 0 {
			t.Errorf("%d of %d calls failed", s.failed, s.calls)
		}
		if refused > 0 || len(served) < minutes*grant*97/100 {
			t.Errorf("the provider served %d of %d that it grants, and refused %d", len(served), minutes*grant, refused)
		}
	})
}
