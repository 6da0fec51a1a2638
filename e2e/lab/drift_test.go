package lab

import (
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	failover "github.com/apifailover/caddy-failover"
)

// pattern answers as its text says, one character a call: x is a failure, anything else a success.
// It repeats the text, until an empty pattern takes over.
type pattern struct {
	text  atomic.Pointer[string]
	asked atomic.Int64
}

func (p *pattern) becomes(text string) { p.text.Store(&text) }

func (p *pattern) roundTrip(r *http.Request) (*http.Response, error) {
	n := p.asked.Add(1) - 1
	if r.Body != nil {
		_, _ = io.Copy(io.Discard, r.Body)
	}
	if text := *p.text.Load(); text != "" && text[n%int64(len(text))] == 'x' {
		return after(2*time.Millisecond, http.StatusServiceUnavailable)(r)
	}
	return after(2*time.Millisecond, http.StatusOK)(r)
}

// quietLab is a pool that gets a call every 4 s. Its primary has the lowest score: it fails often,
// but never five times in a row.
func quietLab(t *testing.T, ill string) (l *lab, primary *pattern) {
	primary = new(pattern)
	primary.becomes(ill)
	l = newLab(t, &failover.Policy{}, "one:80", "two:80")
	l.on("one:80", primary.roundTrip)
	for l.endpoint("one:80").status().Score > 0.051 {
		l.call(http.MethodGet, "/", "")
		time.Sleep(time.Second)
	}
	return l, primary
}

const quietEvery = 4 * time.Second

// TestScoresComeBackInAQuietPool checks that a primary with a low score, whose breaker never opened,
// has its traffic back within minutes after it recovers, even if the pool gets few calls.
func TestScoresComeBackInAQuietPool(t *testing.T) {
	for method, most := range map[string]time.Duration{http.MethodGet: 3 * time.Minute, http.MethodPost: 5 * time.Minute} {
		t.Run(method, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l, primary := quietLab(t, "xxxx.")
				if got := l.endpoint("one:80").state(); got != "closed" {
					t.Fatalf("the breaker is %s", got)
				}
				primary.becomes("")
				began, calls := time.Now(), 0
				for l.endpoint("one:80").status().Traffic < 0.95 && time.Since(began) < time.Hour {
					l.call(method, "/", "")
					calls++
					time.Sleep(quietEvery)
				}
				took := time.Since(began)
				t.Logf("back after %v and %d calls", took, calls)
				if took > most {
					t.Errorf("well again, and back after %v only", took)
				}
			})
		})
	}
}

// TestScoresComeBackInAnIdlePool checks that a score recovers with time, without calls.
func TestScoresComeBackInAnIdlePool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _ := quietLab(t, "xxxx.")
		time.Sleep(32 * time.Second)
		if got := l.endpoint("one:80").status().Score; got < 0.45 || got > 0.6 {
			t.Errorf("after half a minute: %v", got)
		}
		time.Sleep(5 * time.Minute)
		if got := l.endpoint("one:80").status().Traffic; got != 1 {
			t.Errorf("after some minutes: %v of the traffic", got)
		}
	})
}

// TestScoresThatDriftHelpNoIllEndpoint checks that a primary that goes on failing gets few calls of a
// quiet pool, and no more of a busy one than its score allows.
func TestScoresThatDriftHelpNoIllEndpoint(t *testing.T) {
	for name, c := range map[string]struct {
		every  time.Duration
		method string
		most   float64
	}{
		"a call each 4 s":       {4 * time.Second, http.MethodGet, 0.4},
		"a call each 4 s, POST": {4 * time.Second, http.MethodPost, 0.4},
		"a call a second":       {time.Second, http.MethodGet, 0.2},
		"10 calls/s":            {100 * time.Millisecond, http.MethodGet, 0.08},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l, primary := quietLab(t, "xxxx.")
				primary.asked.Store(0)
				calls := int(20 * time.Minute / c.every)
				failed := 0
				for range calls {
					if l.call(c.method, "/", "").Code != http.StatusOK {
						failed++
					}
					time.Sleep(c.every)
				}
				part := float64(primary.asked.Load()) / float64(calls)
				t.Logf("it was asked for %.1f %% of %d calls, and %d failed", 100*part, calls, failed)
				if part > c.most {
					t.Errorf("asked for %.1f %% of the calls", 100*part)
				}
				if failed > 0 && c.method == http.MethodGet {
					t.Errorf("%d calls failed", failed)
				}
			})
		})
	}
}
