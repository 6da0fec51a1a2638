package lab

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestOneClientClosesNothing has one client whose requests fail at every endpoint, in a pool with few or no other
// calls, which cannot show that the endpoints are well. Every call of another client must still be served.
func TestOneClientClosesNothing(t *testing.T) {
	type request struct{ method, path, body, key, field string } // field: of the key; empty: Authorization
	usual := request{method: http.MethodGet, path: "/", key: "good"}
	isBad := func(r *http.Request) bool {
		if r.URL.Path == "/bad" || r.URL.Query().Has("bad") || r.Header.Get("X-Client") == "bad" {
			return true
		}
		if r.Body == nil {
			return false
		}
		body, _ := io.ReadAll(r.Body)
		return strings.Contains(string(body), "bad")
	}
	for name, c := range map[string]struct {
		fails     roundTrip
		bad, good func() request
		options   string
	}{
		"500":                          {fails: answersWith(500)},
		"503":                          {fails: answersWith(503)},
		"429, the endpoints' own keys": {fails: answersWith(429, "Retry-After", "60"), options: "quota endpoint"},
		"cut":                          {fails: func(*http.Request) (*http.Response, error) { return nil, errCut }},
		"cut inside": {fails: func(r *http.Request) (*http.Response, error) {
			resp := respond(r, http.StatusOK, "")
			resp.ContentLength, resp.Body = 10, io.NopCloser(io.MultiReader(strings.NewReader("half"), brokenReader{}))
			return resp, nil
		}},
		"no response": {fails: hangs, options: "timeout 500ms"},
		"other paths": {fails: answersWith(500), bad: func() request {
			return request{http.MethodGet, fmt.Sprint("/?bad=", rand.IntN(3)), "", "bad", ""}
		}},
		"one path, another body": {fails: answersWith(500),
			bad:  func() request { return request{http.MethodPost, "/v1/chat", `{"model":"bad"}`, "one", ""} },
			good: func() request { return request{http.MethodPost, "/v1/chat", fmt.Sprint(rand.Int()), "one", ""} },
		},
		"one path, another key": {fails: answersWith(500),
			bad:  func() request { return request{http.MethodPost, "/v1/chat", fmt.Sprint("bad", rand.Int()), "bad", ""} },
			good: func() request { return request{http.MethodPost, "/v1/chat", fmt.Sprint(rand.Int()), "good", ""} },
		},
		"one path, another key in a header of its own": {fails: answersWith(500),
			bad: func() request {
				return request{http.MethodPost, "/v1/chat", fmt.Sprint("bad", rand.Int()), "bad", "Xi-Api-Key"}
			},
			good: func() request {
				return request{http.MethodPost, "/v1/chat", fmt.Sprint(rand.Int()), "good", "Xi-Api-Key"}
			},
		},
		"calls that wait": {fails: answersWith(500), options: "all_down wait 1s"},
	} {
		for _, endpoints := range []int{1, 3} {
			for _, pauses := range [][2]time.Duration{{10 * time.Millisecond, 300 * time.Millisecond}, {10 * time.Millisecond, 4 * time.Second}, {300 * time.Millisecond, 4 * time.Second}} {
				if every, pause := pauses[0], pauses[1]; name == "500" || pause != 300*time.Millisecond {
					t.Run(fmt.Sprintf("%s, %d endpoints, bad every %v, good every %v", name, endpoints, every, pause), func(t *testing.T) {
						synctest.Test(t, func(t *testing.T) {
							bad, good := c.bad, c.good
							if bad == nil {
								bad = func() request { return request{http.MethodGet, "/bad", "", "bad", ""} }
							}
							if good == nil {
								good = func() request { return usual }
							}
							l := openAlike(t, endpoints, c.options, func(r *http.Request) (*http.Response, error) {
								if isBad(r) {
									return c.fails(r)
								}
								return after(2*time.Millisecond, http.StatusOK)(r)
							})
							defer l.close()
							send := func(r request) int {
								return l.call(r.method, r.path, r.body, cmp.Or(r.field, "Authorization"), "Bearer "+r.key).Code
							}
							end := make(chan struct{})
							go func() {
								for {
									select {
									case <-end:
										return
									case <-time.After(every):
										go func() {
											defer func() { _ = recover() }() // the proxy aborts when a body breaks
											send(bad())
										}()
									}
								}
							}()
							time.Sleep(2 * time.Second)
							for i := range 5 {
								if got := send(good()); got != http.StatusOK {
									t.Errorf("call %d got %d", i, got)
								}
								time.Sleep(pause)
							}
							close(end)
							time.Sleep(5 * time.Second) // until the last bad calls are over
						})
					})
				}
			}
		}
	}
}

// TestCallsUnlikeTheFailedOnesAreServedDuringARecovery has one call show that the only endpoint works. The calls that
// come at once after it must all be served, although the recovering endpoint admits few.
func TestCallsUnlikeTheFailedOnesAreServedDuringARecovery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := openLab(t, "failover {\nname lab\nendpoint http://one:80\n}")
		defer l.close()
		l.on("one:80", func(r *http.Request) (*http.Response, error) {
			if r.URL.Path == "/bad" {
				return answersWith(http.StatusInternalServerError)(r)
			}
			return after(20*time.Millisecond, http.StatusOK)(r)
		})
		for range 50 {
			l.call(http.MethodGet, "/bad", "")
			time.Sleep(10 * time.Millisecond)
		}
		for round := range 5 {
			var wg sync.WaitGroup
			for range 20 {
				wg.Go(func() {
					if got := l.call(http.MethodGet, "/good", "").Code; got != http.StatusOK {
						t.Errorf("round %d: %d", round, got)
					}
				})
			}
			wg.Wait()
		}
	})
}

// TestOneClientWithManyFaces has one client make up a new credential, path and body for each request, so that none is
// like another that failed. Every call from another address must still be served.
func TestOneClientWithManyFaces(t *testing.T) {
	for name, c := range map[string]struct {
		fails   roundTrip
		options string
		address func() string
	}{
		"500":        {fails: answersWith(500), address: func() string { return "203.0.113.9:77" }},
		"not judged": {fails: answersWith(500), options: "retry off", address: func() string { return "203.0.113.9:77" }},
		"429": {fails: answersWith(429, "Retry-After", "60"), options: "quota endpoint\nretry off",
			address: func() string { return "203.0.113.9:77" }},
		"a network of IPv6": {fails: answersWith(500),
			address: func() string { return fmt.Sprintf("[2001:db8:7:%x::%x]:77", rand.IntN(1<<16), rand.IntN(1<<16)) }},
	} {
		for _, endpoints := range []int{1, 3} {
			t.Run(fmt.Sprintf("%s, %d endpoints", name, endpoints), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					l := openAlike(t, endpoints, c.options, func(r *http.Request) (*http.Response, error) {
						if r.Header.Get("Authorization") != "good" {
							return c.fails(r)
						}
						return after(20*time.Millisecond, http.StatusOK)(r)
					})
					defer l.close()
					stop := l.callWithManyFaces(true, c.address)
					time.Sleep(time.Second)
					for i := range 8 {
						if got := l.call(http.MethodGet, "/", "", "Authorization", "good").Code; got != http.StatusOK {
							t.Errorf("call %d got %d", i, got)
						}
						time.Sleep(time.Second)
					}
					stop()
				})
			})
		}
	}
}

// TestReturnsBesideFailingRequests has the pool come back from an outage while one client's requests go on failing everywhere.
// They are so many that they win all trials, or none is like another. The calls of another client must be served soon.
func TestReturnsBesideFailingRequests(t *testing.T) {
	for name, c := range map[string]struct {
		options string
		many    bool // each failing request is unlike the others
		bodies  bool // each good one has a body of its own
	}{
		"the same request":                       {},
		"the same request, not judged":           {options: "retry off"},
		"many faces":                             {many: true},
		"many faces, and good calls with bodies": {many: true, bodies: true},
	} {
		for _, endpoints := range []int{1, 3} {
			t.Run(fmt.Sprintf("%s, %d endpoints", name, endpoints), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var down atomic.Bool
					l := openAlike(t, endpoints, c.options, func(r *http.Request) (*http.Response, error) {
						if down.Load() || r.Header.Get("Authorization") != "good" {
							return after(2*time.Millisecond, http.StatusInternalServerError)(r)
						}
						return after(20*time.Millisecond, http.StatusOK)(r)
					})
					defer l.close()
					stop := l.callWithManyFaces(c.many, func() string { return "203.0.113.9:77" })
					good := func() int {
						body := ""
						if c.bodies {
							body = fmt.Sprint(rand.Int())
						}
						time.Sleep(200 * time.Millisecond)
						return l.call(http.MethodPost, "/", body, "Authorization", "good").Code
					}
					down.Store(true)
					for range 50 {
						good()
					}
					down.Store(false)
					for i := range 50 {
						if got := good(); got != http.StatusOK && i > 12 {
							t.Errorf("call %d after the return got %d", i, got)
						}
					}
					stop()
				})
			})
		}
	}
}

// callWithManyFaces sends a hundred requests a second from an address, until stop. With many, none has the path, credential and
// body of another.
func (l *lab) callWithManyFaces(many bool, address func() string) (stop func()) {
	end := make(chan struct{})
	go func() {
		ticker := time.NewTicker(10*time.Millisecond + 137*time.Microsecond)
		defer ticker.Stop()
		for {
			select {
			case <-end:
				return
			case <-ticker.C:
				r := newRequest(context.Background(), http.MethodGet, "/bad", nil)
				if many {
					r = newRequest(context.Background(), http.MethodPost, fmt.Sprint("/", rand.Int()), strings.NewReader(fmt.Sprint(rand.Int())))
					r.Header.Set("Authorization", fmt.Sprint(rand.Int()))
				}
				r.RemoteAddr = address()
				go func() { _ = l.serve(httptest.NewRecorder(), r) }() // an error is its client's
			}
		}
	}()
	return func() {
		close(end)
		time.Sleep(2 * time.Second) // until the last are over
	}
}

// TestNoCallIsRefusedAtTheEndOfACooldown has the only endpoint leave cooldowns again and again, each when a call comes.
func TestNoCallIsRefusedAtTheEndOfACooldown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := openLab(t, "failover {\nname lab\nendpoint http://one:80\nquota endpoint\n}")
		defer l.close()
		l.on("one:80", func(r *http.Request) (*http.Response, error) {
			if r.URL.Path == "/bad" {
				return answersWith(http.StatusTooManyRequests)(r)
			}
			return answers200(r)
		})
		for range 20 {
			l.call(http.MethodGet, "/bad", "")
			for range 4 {
				time.Sleep(250 * time.Millisecond)
				if got := l.call(http.MethodGet, "/", "").Code; got != http.StatusOK {
					t.Errorf("%d", got)
				}
			}
		}
	})
}
