package lab

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptrace"
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

// connects tells the proxy that the request gets a connection, as Caddy's transport does.
func connects(f roundTrip) roundTrip {
	return func(r *http.Request) (*http.Response, error) {
		httptrace.ContextClientTrace(r.Context()).GotConn(httptrace.GotConnInfo{})
		return f(r)
	}
}

// TestALimitCountsWhatTheEndpointGets checks that an attempt whose request did not reach the endpoint uses nothing of its limits,
// whatever ended it, and that others do.
func TestALimitCountsWhatTheEndpointGets(t *testing.T) {
	const hedge, timeout = "retry {\nhedge 50ms max 1\n}", "timeout 2s"
	resets := func(*http.Request) (*http.Response, error) { return nil, errCut }
	unsent := func(*http.Request) (*http.Response, error) {
		return nil, fmt.Errorf("net/http: invalid header field value for %q", "X")
	}
	for name, test := range map[string]struct {
		options string
		does    roundTrip
		leaves  bool // the client leaves after a second
		used    int64
	}{
		"no connection":                           {"", refusesConnections, false, 0},
		"not sent":                                {"", unsent, false, 0},
		"no connection until the timeout":         {timeout, hangs, false, 0},
		"no connection until the client leaves":   {"", hangs, true, 0},
		"no connection until a hedge wins":        {hedge, hangs, false, 0},
		"no answer until the timeout":             {timeout, connects(hangs), false, 1},
		"no answer until the client leaves":       {"", connects(hangs), true, 1},
		"no answer until a hedge wins":            {hedge, connects(hangs), false, 1},
		"a connection that breaks":                {"", connects(resets), false, 1},
		"500":                                     {"", connects(answersWith(500)), false, 1},
		"429":                                     {"", connects(answersWith(429)), false, 1},
		"200":                                     {"", connects(answers200), false, 1},
		"a transport that reports no connections": {"", hangs, true, 1},
	} {
		t.Run(name, func(t *testing.T) {
			for _, limit := range []string{"limit 10 requests per 1h burst 10", "limit 10 requests per 1h burst 10\nlimit 1000 tokens per 1m"} {
				synctest.Test(t, func(t *testing.T) {
					l := openLab(t, "failover {\nname lab\nquota endpoint\n"+test.options+"\nendpoint http://one:1 {\nname one\n"+limit+"\n}\nendpoint http://two:1\n}")
					defer l.close()
					if name != "a transport that reports no connections" {
						l.on("two:1", connects(answers200))
						l.endpoint("one").order("drain", "")
						l.call(http.MethodGet, "/", "")
						l.endpoint("one").order("enable", "")
					}
					l.on("one:1", test.does)
					patience := time.Minute
					if test.leaves {
						patience = time.Second
					}
					for range 4 {
						ctx, leave := context.WithTimeout(context.Background(), patience)
						_ = l.callWith(ctx, http.MethodGet, "/", "")
						leave()
					}
					tried := int64(l.endpoint("one").totals().Attempts)
					if left := l.endpoint("one").left(); tried == 0 || left != 10-tried*test.used {
						t.Errorf("%s: %d of 10 are left after %d attempts", limit, left, tried)
					}
				})
			}
		})
	}
}
