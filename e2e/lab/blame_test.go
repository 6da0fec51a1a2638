package lab

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"
	"golang.org/x/net/http2"

	failover "github.com/apifailover/caddy-failover"
)

// closedAndWell checks that these endpoints are closed, have a score of 1, and have never opened.
func (l *lab) closedAndWell(t *testing.T, names ...string) {
	t.Helper()
	time.Sleep(time.Second) // until no outcome is in doubt
	for _, name := range names {
		if s := l.endpoint(name).status(); s.State != "closed" || s.Score < 1 || len(l.endpoint(name).moves()) > 0 {
			t.Errorf("%s: %+v", name, s)
		}
	}
}

// wantNoMoves checks that the breakers of these endpoints have not changed.
func (l *lab) wantNoMoves(t *testing.T, what string, names ...string) {
	t.Helper()
	for _, name := range names {
		if moves := l.endpoint(name).moves(); len(moves) > 0 {
			t.Errorf("%s %s: %+v", what, name, moves)
		}
	}
}

// callBad sends a request for /bad after each pause, until stop.
func (l *lab) callBad(pause time.Duration) (stop func()) {
	end, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		ticker := time.NewTicker(pause)
		defer ticker.Stop()
		for {
			select {
			case <-end:
				return
			case <-ticker.C:
				go l.call(http.MethodGet, "/bad", "")
			}
		}
	}()
	return func() {
		close(end)
		<-done
	}
}

// TestAuthors checks that a failure counts against whoever caused it, not always the endpoint.
func TestAuthors(t *testing.T) {
	for _, tt := range []struct {
		name   string
		err    error
		status int // the client's
		asked  int // endpoints
	}{
		{"a header that is no header", errors.New(`net/http: invalid header field value for "X-Q"`), 400, 1},
		{"a trailer that is no trailer", fmt.Errorf("net/http: HTTP/1.x transport connection broken: write error: %w", errors.New(`invalid Trailer key "foo bar"`)), 400, 1},
		{"an upgrade over HTTP/2", errors.New(`http2: invalid Upgrade request header: ["h2c"]`), 400, 1},
		{"more headers than the endpoint takes", errors.New("http2: request header list larger than peer's advertised limit"), 400, 1},
		{"a body shorter than declared", errors.New("http: ContentLength=5 with Body length 0"), 400, 1},
		{"no descriptor left", os.NewSyscallError("socket", syscall.EMFILE), 502, 1},
		{"no descriptor left, in a dial", &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("socket", syscall.ENFILE)}, 502, 1},
		{"no descriptor left for the resolver", &net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Err: "socket: too many open files", Name: "one"}}, 502, 1},
		{"no port left", &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.EADDRNOTAVAIL)}, 502, 1},
		{"a stream that every endpoint's HTTP/2 layer refuses", http2.StreamError{StreamID: 1, Code: http2.ErrCodeProtocol, Cause: errors.New("received from peer")}, 400, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				names := []string{"one:80", "two:80", "three:80"}
				l := newLab(t, &failover.Policy{}, names...)
				for _, name := range names {
					l.on(name, func(r *http.Request) (*http.Response, error) {
						if r.URL.Path == "/bad" {
							return nil, tt.err
						}
						return respond(r, http.StatusOK, "well"), nil
					})
				}
				for range 30 {
					l.takeAsked()
					if got := l.call(http.MethodGet, "/bad", "").Code; got != tt.status {
						t.Fatalf("status %d, want %d", got, tt.status)
					}
					if asked := l.takeAsked(); len(asked) != tt.asked && (tt.asked == 1 || len(asked) < tt.asked) {
						t.Fatalf("asked %v, want %d", asked, tt.asked)
					}
				}
				l.closedAndWell(t, names...)
				if got := l.call(http.MethodGet, "/", "").Code; got != http.StatusOK {
					t.Errorf("another call: status %d", got)
				}
			})
		})
	}
}

// TestQueryOfDeath sends a request that fails at every endpoint, beside good requests that only
// the primary gets. No endpoint's breaker may open, not even those of endpoints without other
// calls, and these must take over when the primary fails.
func TestQueryOfDeath(t *testing.T) {
	dies := map[string]roundTrip{
		"status": after(time.Millisecond, http.StatusInternalServerError),
		"slowly": after(400*time.Millisecond, http.StatusInternalServerError),
		"cut":    func(*http.Request) (*http.Response, error) { return nil, errCut },
		"body": func(r *http.Request) (*http.Response, error) {
			resp := respond(r, http.StatusOK, "")
			resp.ContentLength, resp.Body = 10, io.NopCloser(io.MultiReader(strings.NewReader("half"), brokenReader{}))
			return resp, nil
		},
	}
	for name, bad := range dies {
		for _, pause := range []time.Duration{10 * time.Millisecond, 500 * time.Millisecond} {
			t.Run(fmt.Sprint(name, " every ", pause), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					names := []string{"one:80", "two:80", "three:80"}
					policy := &failover.Policy{}
					if name == "body" {
						policy.Commit = &failover.Commit{After: "complete"}
					}
					l := newLab(t, policy, names...)
					for _, name := range names {
						l.on(name, func(r *http.Request) (*http.Response, error) {
							if r.URL.Path == "/bad" {
								return bad(r)
							}
							return after(2*time.Millisecond, http.StatusOK)(r)
						})
					}
					stop := l.callBad(pause)
					if s := l.load(200, 20*time.Second); s.failed > 0 {
						t.Errorf("good calls: %+v", s)
					}
					l.wantNoMoves(t, "with bad requests", names...)
					l.on("one:80", func(*http.Request) (*http.Response, error) { return nil, errCut })
					if s := l.load(200, 3*time.Second); s.failed*200 > s.calls {
						t.Errorf("when the primary fails: %+v", s)
					}
					if len(l.endpoint("one:80").moves()) == 0 {
						t.Error("the primary fails and is not out")
					}
					stop()
					time.Sleep(2 * time.Second)
				})
			})
		}
	}
}

// TestQueryOfDeathBesideAFailure checks that a request that fails at every endpoint opens no
// breaker of the endpoints that take over from a failed primary, and none at a fresh start. They have
// served no other call when they first get this request, and good calls take time: for the whole
// answer, or for the rest of a stream. The bad request comes a thousand times a second, or half
// as often as good ones if only one endpoint takes over.
func TestQueryOfDeathBesideAFailure(t *testing.T) {
	cutOff := func(*http.Request) (*http.Response, error) { return nil, errCut }
	failed, internal := answersWith(http.StatusServiceUnavailable), answersWith(http.StatusInternalServerError)
	two, three := []string{"one:80", "two:80"}, []string{"one:80", "two:80", "three:80"}
	for name, test := range map[string]struct {
		endpoints  []string
		pause      time.Duration // between two bad requests
		good       roundTrip
		fails, bad roundTrip
	}{
		"two endpoints, 503, 500":           {two, 10 * time.Millisecond, after(30*time.Millisecond, 200), failed, internal},
		"two endpoints, cut, cut":           {two, 10 * time.Millisecond, after(30*time.Millisecond, 200), cutOff, cutOff},
		"three endpoints, 503, 500":         {three, time.Millisecond, after(30*time.Millisecond, 200), failed, internal},
		"three endpoints, 503, cut":         {three, time.Millisecond, after(30*time.Millisecond, 200), failed, cutOff},
		"three endpoints, cut, 500":         {three, time.Millisecond, after(30*time.Millisecond, 200), cutOff, internal},
		"three endpoints, cut, cut":         {three, time.Millisecond, after(30*time.Millisecond, 200), cutOff, cutOff},
		"answers after 300 ms":              {three, time.Millisecond, after(300*time.Millisecond, 200), failed, internal},
		"answers after 2 s":                 {three, time.Millisecond, after(2*time.Second, 200), failed, cutOff},
		"answers after 2 s, two endpoints":  {two, 20 * time.Millisecond, after(2*time.Second, 200), cutOff, internal},
		"streams of 5 s":                    {three, time.Millisecond, eventsOver(5 * time.Second), failed, internal},
		"slow answers, a request of 100 ms": {three, 5 * time.Millisecond, after(time.Second, 200), failed, after(100*time.Millisecond, 500)},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLab(t, &failover.Policy{}, test.endpoints...)
				for _, name := range test.endpoints {
					l.on(name, func(r *http.Request) (*http.Response, error) {
						if r.URL.Path == "/bad" {
							return test.bad(r)
						}
						return test.good(r)
					})
				}
				stop := l.callBad(test.pause)
				good := make(chan stats, 1)
				go func() { good <- l.load(200, 3*time.Second) }()
				time.Sleep(time.Second)
				l.wantNoMoves(t, "at a fresh start", test.endpoints...)
				l.on("one:80", test.fails)
				time.Sleep(2 * time.Second)
				l.wantNoMoves(t, "with bad requests", test.endpoints[1:]...)
				if len(l.endpoint("one:80").moves()) == 0 {
					t.Error("the primary fails and is not out")
				}
				stop()
				// While the primary is not out, bad requests use up the budget of retries.
				if s := <-good; s.failed*5 > s.calls {
					t.Errorf("%+v", s)
				}
				time.Sleep(2 * time.Second)
			})
		})
	}
}

// TestFloodsOfQueriesOfDeath sends ten times as many requests that fail at every endpoint as good ones,
// to endpoints of one tier, such as the keys of one provider. The budget lets few of them get a second
// attempt, and there are long runs of failures between two good answers. No breaker may open. When the
// whole pool is out, it must be found.
func TestFloodsOfQueriesOfDeath(t *testing.T) {
	for _, status := range []int{500, 403} {
		for _, n := range []int{2, 3} {
			t.Run(fmt.Sprint(status, " at ", n), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					names := []string{"one:80", "two:80", "three:80"}[:n]
					policy := &failover.Policy{Quota: "endpoint"}
					for _, name := range names {
						policy.Endpoints = append(policy.Endpoints, &failover.Endpoint{Upstream: name, Priority: 1})
					}
					l := newLab(t, policy, names...)
					for _, name := range names {
						l.on(name, func(r *http.Request) (*http.Response, error) {
							if r.URL.Path == "/bad" {
								return after(3*time.Millisecond, status)(r)
							}
							return after(20*time.Millisecond, http.StatusOK)(r)
						})
					}
					l.load(30, 3*time.Second)
					stop := l.callBad(time.Second / 300)
					if s := l.load(30, 20*time.Second); s.failed > 0 {
						t.Errorf("good calls: %+v", s)
					}
					for _, name := range names {
						if moves := l.endpoint(name).moves(); len(moves) > 0 {
							t.Errorf("%s: %+v", name, moves)
						}
						l.on(name, after(3*time.Millisecond, status))
					}
					l.within(5*time.Second, "all are out", func() bool {
						for _, name := range names {
							if l.endpoint(name).state() == "closed" {
								return false
							}
						}
						return true
					})
					stop()
					time.Sleep(2 * time.Second)
				})
			})
		}
	}
}

// eventsOver answers at once with a body that takes a time.
func eventsOver(lasting time.Duration) roundTrip {
	return func(r *http.Request) (*http.Response, error) {
		body, writer := io.Pipe()
		go func() {
			for range 10 {
				if _, err := writer.Write([]byte("data: more\n\n")); err != nil {
					return
				}
				time.Sleep(lasting / 10)
			}
			writer.Close()
		}()
		return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"text/event-stream"}}, Body: body, Request: r}, nil
	}
}

// TestOutagesOfSlowEndpoints checks how soon breakers open if new calls fail at once while older
// ones are still answered, each 2 s after it began. No call is lost if only the primary fails.
func TestOutagesOfSlowEndpoints(t *testing.T) {
	for name, test := range map[string]struct {
		fail []string
		most time.Duration // until they are out
	}{
		"the primary": {[]string{"one:80"}, time.Second},
		"all":         {[]string{"one:80", "two:80"}, 5 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLab(t, &failover.Policy{}, "one:80", "two:80")
				for _, name := range []string{"one:80", "two:80"} {
					l.on(name, after(2*time.Second, http.StatusOK))
				}
				done := make(chan stats, 1)
				go func() { done <- l.load(100, 10*time.Second) }()
				time.Sleep(4 * time.Second)
				for _, name := range test.fail {
					l.on(name, answersWith(http.StatusServiceUnavailable))
				}
				took := l.within(test.most, "they are out", func() bool {
					for _, name := range test.fail {
						if l.endpoint(name).state() == "closed" {
							return false
						}
					}
					return true
				})
				t.Logf("out after %v", took)
				if s := <-done; len(test.fail) == 1 && s.failed*100 > s.calls {
					t.Errorf("%+v", s)
				}
				time.Sleep(3 * time.Second)
			})
		})
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// TestOutageOpensAsBefore checks that breakers open if every endpoint fails for every call.
func TestOutageOpensAsBefore(t *testing.T) {
	for _, idle := range []time.Duration{0, 3 * time.Second} {
		t.Run(fmt.Sprint("after ", idle), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				names := []string{"one:80", "two:80"}
				l := newLab(t, &failover.Policy{}, names...)
				l.load(200, 2*time.Second)
				time.Sleep(idle)
				for _, name := range names {
					l.on(name, after(time.Millisecond, http.StatusServiceUnavailable))
				}
				began := time.Now()
				go l.load(200, 2*time.Second)
				took := l.within(2*time.Second, "both are out", func() bool {
					return l.endpoint("one:80").state() != "closed" && l.endpoint("two:80").state() != "closed"
				})
				if took > 200*time.Millisecond {
					t.Errorf("out after %v", took)
				}
				time.Sleep(3*time.Second - time.Since(began))
			})
		})
	}
}

// TestEndpointsThatAnswerSome checks that two endpoints that fail most calls open, and that the
// pool does not refuse the calls that they still answer.
func TestEndpointsThatAnswerSome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		l := newLab(t, &failover.Policy{Breaker: &failover.Breaker{OpenFor: caddy.Duration(time.Minute)}, Retry: &failover.Retry{Off: true}}, "one:80", "two:80")
		for _, name := range []string{"one:80", "two:80"} {
			l.on(name, func(r *http.Request) (*http.Response, error) {
				if n++; n%5 < 3 {
					return respond(r, http.StatusServiceUnavailable, ""), nil
				}
				return respond(r, http.StatusOK, ""), nil
			})
		}
		answered, calls := 0, 0
		for range 2000 {
			time.Sleep(5 * time.Millisecond)
			calls++
			if l.call(http.MethodGet, "/", "").Code == http.StatusOK {
				answered++
			}
		}
		if answered < calls/10 {
			t.Errorf("%d of %d calls answered", answered, calls)
		}
	})
}

// TestPanicOfAHedge checks that a call is answered, and leaves no attempt in flight, if the transport
// panics in a hedge's goroutine.
func TestPanicOfAHedge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, &failover.Policy{Retry: &failover.Retry{Hedge: &failover.Hedge{After: caddy.Duration(50 * time.Millisecond)}}}, "one:80", "two:80")
		l.load(200, time.Second)
		l.on("one:80", after(300*time.Millisecond, http.StatusOK))
		l.on("two:80", func(*http.Request) (*http.Response, error) { panic("of the transport") })
		if got := l.call(http.MethodGet, "/", "").Code; got != http.StatusOK {
			t.Errorf("status %d", got)
		}
		if n := l.endpoint("two:80").inFlight(); n != 0 {
			t.Errorf("%d attempts left in flight", n)
		}
	})
}
