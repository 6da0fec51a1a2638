package failover

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/apifailover/caddy-failover/internal/call"
	"github.com/apifailover/caddy-failover/internal/endpoint"
)

// TestAttemptIsItsClientsContext asks an attempt for what the client's context has.
func TestAttemptIsItsClientsContext(t *testing.T) {
	type key struct{}
	vars := map[string]any{"a": "b"}
	client := context.WithValue(context.WithValue(t.Context(), key{}, "value"), caddyhttp.VarsCtxKey, vars)
	l := newLab(t, &Policy{Name: "api"}, "one:1")
	var seen []any
	l.on("one:1", func(r *http.Request) (*http.Response, error) {
		seen = append(seen, r.Context().Value(key{}), caddyhttp.GetVar(r.Context(), "a"), caddyhttp.GetVar(r.Context(), "set by a handler"))
		if _, ok := r.Context().(*call.Attempt); !ok {
			t.Errorf("the context is a %T", r.Context())
		}
		return respond(r, http.StatusOK, ""), nil
	})
	r, _ := http.NewRequestWithContext(client, http.MethodGet, "http://api.test/", nil)
	upstream := l.policy.Select(l.handler.Upstreams, r, nil)
	if upstream == nil {
		t.Fatal("nothing selected")
	}
	caddyhttp.SetVar(r.Context(), "set by a handler", "later")
	r.URL.Host = upstream.Dial
	resp, err := l.handler.Transport.RoundTrip(r.WithContext(r.Context()))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if len(seen) != 3 || seen[0] != "value" || seen[1] != "b" || seen[2] != "later" {
		t.Errorf("got %v", seen)
	}
}

// TestHowBodiesEnd has the client leave before the end of a body is seen. What came
// whole is the endpoint's success all the same.
func TestHowBodiesEnd(t *testing.T) {
	for name, test := range map[string]struct {
		body  io.ReadCloser
		leave bool
		want  endpoint.Totals
	}{
		"none":                                {http.NoBody, false, endpoint.Totals{Attempts: 1, Successes: 1}},
		"whole":                               {io.NopCloser(strings.NewReader("whole")), false, endpoint.Totals{Attempts: 1, Successes: 1}},
		"whole, but the client has left":      {io.NopCloser(strings.NewReader("whole")), true, endpoint.Totals{Attempts: 1, Successes: 1}},
		"broken":                              {io.NopCloser(broken{}), false, endpoint.Totals{Attempts: 1, Failures: 1}},
		"broken, because the client has left": {io.NopCloser(broken{}), true, endpoint.Totals{Attempts: 1, Cancelled: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, &Policy{Name: "api"}, "one:1")
			ctx, leave := context.WithCancel(t.Context())
			defer leave()
			l.on("one:1", func(r *http.Request) (*http.Response, error) {
				resp := respond(r, http.StatusOK, "")
				resp.Body, resp.ContentLength = leavingBody{test.body, func() {
					if test.leave {
						leave()
					}
				}}, -1
				if test.body == http.NoBody {
					resp.Body = http.NoBody
				}
				return resp, nil
			})
			func() {
				defer func() {
					if p := recover(); p != nil && p != http.ErrAbortHandler {
						panic(p)
					}
				}()
				l.callWith(ctx, http.MethodGet, "/", "")
			}()
			if got := totalsNow(l.stateOf("one:1")); got != test.want {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
			if n := inFlightNow(l.stateOf("one:1")); n != 0 {
				t.Errorf("%d in flight", n)
			}
		})
	}
}

// leavingBody has the client leave before each read.
type leavingBody struct {
	io.ReadCloser
	leave func()
}

func (l leavingBody) Read(p []byte) (int, error) {
	l.leave()
	return l.ReadCloser.Read(p)
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("connection reset") }
