package lab

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

// TestFastRefusalsDrawNoTraffic checks that an endpoint that refuses requests at once does not look
// faster than one that serves them, neither to the score nor to the choice by latency.
func TestFastRefusalsDrawNoTraffic(t *testing.T) {
	for _, status := range []int{http.StatusBadRequest, http.StatusNotFound, http.StatusTooManyRequests} {
		for balance, least := range map[string]float64{"": 0.45, "balance least_latency": 0.2} {
			t.Run(http.StatusText(status)+balance, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					l := openLab(t, "failover {\nname lab\nendpoint http://one:80 {\npriority 1\n}\nendpoint http://two:80 {\npriority 1\n}\n"+balance+"\n}")
					defer l.close()
					l.on("one:80", answersWith(status))
					l.on("two:80", after(20*time.Millisecond, http.StatusOK))
					l.load(100, 30*time.Second)
					if got := l.endpoint("two:80").status(); got.Score < 0.95 || float64(got.Attempts) < least*3000 {
						t.Errorf("the endpoint that serves has score %v, and got %v of 3000", got.Score, got.Attempts)
					}
				})
			})
		}
	}
}
