package lab

import (
	"context"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

// TestClientLeavesDuringRescue checks that attempts, failovers and calls add up if a client leaves just
// after the watcher has moved its call: the reserved attempt begins and ends.
func TestClientLeavesDuringRescue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := openLab(t, "failover {\nname lab\nendpoint http://one:1 {\nname one\n}\nendpoint http://two:1 {\nname two\n}\n}")
		defer l.close()
		ctx, leave := context.WithCancel(t.Context())
		l.on("one:1", func(r *http.Request) (*http.Response, error) {
			if r.URL.Path == "/cut" {
				return nil, errCut
			}
			<-r.Context().Done()
			leave()
			return nil, r.Context().Err()
		})
		l.on("two:1", func(r *http.Request) (*http.Response, error) {
			if err := r.Context().Err(); err != nil {
				return nil, err
			}
			return answers200(r)
		})
		code := make(chan int)
		go func() { code <- l.callWith(ctx, http.MethodGet, "/", "").Code }()
		time.Sleep(time.Second)
		one, two := l.endpoint("one"), l.endpoint("two")
		for range 5 { // which take the endpoint out
			l.call(http.MethodPost, "/cut", "")
		}
		if got := <-code; got != 499 {
			t.Errorf("got %d", got)
		}
		synctest.Wait()
		if a, b := one.totals(), two.totals(); a != (totals{Attempts: 6, Failures: 5, Cancelled: 1}) || b != (totals{Attempts: 1, Cancelled: 1}) || one.inFlight()+two.inFlight() != 0 {
			t.Errorf("totals are %+v and %+v", a, b)
		}
		var report struct {
			Total     struct{ Cancelled uint64 }
			Failovers []struct {
				From, To string
				Count    uint64
			}
		}
		admin(t, http.MethodGet, "report?pool=lab&from=1h&format=json", "", &report)
		if report.Total.Cancelled != 1 {
			t.Errorf("%d calls were cancelled", report.Total.Cancelled)
		}
		if f := report.Failovers; len(f) != 1 || f[0].From != "one" || f[0].To != "two" || f[0].Count != 1 {
			t.Errorf("failovers: %+v", f)
		}
	})
}
