package lab

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestOneMethodFails has a primary fail every POST for 8 s, with a scope for each method. POSTs must leave
// it at once and come back soon after, and GETs must stay.
func TestOneMethodFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := openLab(t, strings.Replace(comebackOptions, "commit complete", "commit complete\n\tscope {method}", 1))
		defer l.close()
		well, fails := after(2*time.Millisecond, http.StatusOK), after(2*time.Millisecond, http.StatusServiceUnavailable)
		var mu sync.Mutex
		ill, posts, gets := false, 0, 0
		l.on("two.test:80", well)
		l.on("three.test:80", well)
		l.on("one.test:80", func(r *http.Request) (*http.Response, error) {
			mu.Lock()
			bad := ill && r.Method == http.MethodPost
			switch r.Method {
			case http.MethodPost:
				posts++
			case http.MethodGet:
				gets++
			}
			mu.Unlock()
			if bad {
				return fails(r)
			}
			return well(r)
		})
		// load sends 100 GETs and 100 POSTs a second, and returns how many of each the primary got.
		load := func(lasting time.Duration) (gotPosts, gotGets int) {
			mu.Lock()
			posts, gets = 0, 0
			mu.Unlock()
			var wg sync.WaitGroup
			for i := range int(200 * lasting.Seconds()) {
				time.Sleep(5 * time.Millisecond)
				method, body := http.MethodGet, ""
				if i%2 == 1 {
					method, body = http.MethodPost, "{}"
				}
				wg.Go(func() {
					if w := l.call(method, "/", body); w.Code != http.StatusOK {
						t.Errorf("%s: %d", method, w.Code)
					}
				})
			}
			wg.Wait()
			mu.Lock()
			defer mu.Unlock()
			return posts, gets
		}
		load(3 * time.Second)
		mu.Lock()
		ill = true
		mu.Unlock()
		failed, stayed := load(8 * time.Second)
		t.Logf("%d POSTs and %d GETs at the primary while POSTs fail", failed, stayed)
		if failed >= 10 {
			t.Errorf("%d POSTs went to a primary that fails them, want fewer than 10", failed)
		}
		if stayed < 790 {
			t.Errorf("%d of 800 GETs went to a primary that answers them", stayed)
		}
		mu.Lock()
		ill = false
		mu.Unlock()
		began := time.Now()
		for served := 0; served < 90; served, _ = load(time.Second) {
			if time.Since(began) > 20*time.Second {
				t.Fatal("well for 20 s, and no POSTs")
			}
		}
		t.Logf("POSTs are back after %v", time.Since(began)-time.Second)
	})
}
