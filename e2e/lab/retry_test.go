package lab

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// resets accepts the request and cuts the connection after a time.
func resets(after time.Duration) roundTrip {
	return func(r *http.Request) (*http.Response, error) {
		if r.Body != nil {
			_, _ = io.Copy(io.Discard, r.Body)
			r.Body.Close()
		}
		time.Sleep(after)
		return nil, io.ErrUnexpectedEOF
	}
}

func TestRetries(t *testing.T) {
	unavailable := answersWith(http.StatusServiceUnavailable, "X-From", "it")
	badRecord := func(r *http.Request) (*http.Response, error) {
		if r.Body != nil {
			_, _ = io.Copy(io.Discard, r.Body)
		}
		return nil, errors.New("remote error: tls: bad record MAC")
	}
	noHandshake := func(*http.Request) (*http.Response, error) { return nil, errors.New("tls: handshake failure") }
	for _, test := range []struct {
		name    string
		options string
		method  string
		body    string
		header  []string
		do      roundTrip // of every endpoint
		asked   int
		status  int
	}{
		{"three attempts", "", "GET", "", nil, unavailable, 3, 503},
		{"as many as there are endpoints", "retry {\nattempts 9\n}", "GET", "", nil, unavailable, 4, 503},
		{"two attempts", "retry {\nattempts 2\n}", "GET", "", nil, unavailable, 2, 503},
		{"off", "retry off", "GET", "", nil, unavailable, 1, 503},
		{"nobody listens", "", "GET", "", nil, refusesConnections, 3, 502},
		{"POST, nobody listens", "", "POST", "x", nil, refusesConnections, 3, 502},
		{"POST, refused by its status", "", "POST", "x", nil, unavailable, 1, 503},
		{"POST, cut", "", "POST", "x", nil, resets(0), 1, 502},
		{"POST, no handshake", "", "POST", "x", nil, noHandshake, 3, 502},
		{"POST, TLS that breaks when the body was sent", "", "POST", "x", nil, badRecord, 1, 502},
		{"POST with a key", "", "POST", "x", []string{"Idempotency-Key", "1"}, resets(0), 3, 502},
		{"POST where any may", "retry {\nmethods any\n}", "POST", "x", nil, resets(0), 3, 502},
		{"PUT", "", "PUT", "x", nil, resets(0), 3, 502},
		{"a body above the buffer", "retry {\nbuffer 1\n}", "PUT", "xy", nil, resets(0), 1, 502},
		{"a body above the buffer, nobody listens", "retry {\nbuffer 1\n}", "PUT", "xy", nil, refusesConnections, 3, 502},
		{"an answer is an answer", "", "GET", "", nil, answersWith(404), 1, 404},
		{"a client's own quota", "", "GET", "", nil, answersWith(429), 1, 429},
		{"the endpoint's quota", "quota endpoint", "POST", "x", nil, answersWith(403), 3, 403},
		{"no budget", "retry {\nbudget 0% 0\n}", "GET", "", nil, unavailable, 1, 503},
		{"a budget of one in ten seconds", "retry {\nbudget 0% 0.1\n}", "GET", "", nil, unavailable, 2, 503},
		{"too late", "retry {\ndeadline 1s\n}", "GET", "", nil, resets(600 * time.Millisecond), 2, 504},
		{"the proxy's own try duration", "lb_try_duration 1s", "GET", "", nil, resets(600 * time.Millisecond), 2, 502},
		{"the proxy's own number of retries", "lb_retries 1", "GET", "", nil, unavailable, 2, 503},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				directive := "failover {\nname lab\n"
				for i := range 4 {
					directive += fmt.Sprintf("endpoint http://e%d:1\n", i)
				}
				l := openLab(t, directive+test.options+"\n}")
				defer l.close()
				for i := range 4 {
					l.on(fmt.Sprintf("e%d:1", i), test.do)
				}
				w := l.call(test.method, "/", test.body, test.header...)
				asked := l.takeAsked()
				if w.Code != test.status || len(asked) != test.asked {
					t.Errorf("got %d after %v, want %d after %d", w.Code, asked, test.status, test.asked)
				}
				slices.Sort(asked)
				if len(slices.Compact(asked)) != test.asked {
					t.Errorf("asked %v: one of them twice", asked)
				}
				if test.status == 503 && (w.Header().Get("X-From") != "it" || !strings.Contains(w.Body.String(), "Service Unavailable")) {
					t.Errorf("the answer is not the endpoint's own: %v %q", w.Header(), w.Body)
				}
			})
		})
	}
}

// TestBodiesAreSentAgainWhole checks that the last endpoint gets the whole body after all others read
// a part of it and failed.
func TestBodiesAreSentAgainWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := openLab(t, "failover {\nname lab\nendpoint http://e0:1\nendpoint http://e1:1\nendpoint http://e2:1\n}")
		defer l.close()
		body := strings.Repeat("0123456789", 1000)
		for i := range 2 {
			l.on(fmt.Sprintf("e%d:1", i), func(r *http.Request) (*http.Response, error) {
				_, _ = io.ReadFull(r.Body, make([]byte, 10+3000*i))
				r.Body.Close()
				return nil, io.ErrUnexpectedEOF
			})
		}
		got := ""
		l.on("e2:1", func(r *http.Request) (*http.Response, error) {
			all, err := io.ReadAll(r.Body)
			got = string(all)
			r.Body.Close()
			return respond(r, 200, "fine"), err
		})
		if w := l.call("PUT", "/", body); w.Code != 200 || got != body {
			t.Errorf("got %d, the endpoint got %d bytes of %d", w.Code, len(got), len(body))
		}
	})
}

// TestBudgetAtRest checks that a pool that wakes up does not count what happened before it fell
// asleep.
func TestBudgetAtRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := openLab(t, "failover {\nname lab\nendpoint http://e0:1\nendpoint http://e1:1\nbreaker off\nretry {\nbudget 0% 1\n}\n}")
		defer l.close()
		l.on("e0:1", refusesConnections)
		l.on("e1:1", refusesConnections)
		for round := range 3 {
			for range 20 {
				l.call("GET", "/", "")
			}
			if retries := len(l.takeAsked()) - 20; retries != 10 {
				t.Fatalf("round %d: %d retries, want 10", round, retries)
			}
			time.Sleep(time.Hour)
		}
		// Nor may a pool that falls asleep after every call keep counting them: 10
		// retries in the 10 to 11 s that the budget looks back.
		for range 300 {
			l.call("GET", "/", "")
			time.Sleep(300 * time.Millisecond)
		}
		if retries := len(l.takeAsked()) - 300; retries < 80 || retries > 101 {
			t.Errorf("%d retries in 90 s, want about 90", retries)
		}
	})
}
