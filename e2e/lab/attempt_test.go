package lab

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	failover "github.com/apifailover/caddy-failover"
)

// TestAttemptIsItsClientsContext checks that an attempt's context has the values of the client's context.
func TestAttemptIsItsClientsContext(t *testing.T) {
	type key struct{}
	client := context.WithValue(t.Context(), key{}, "value")
	l := newLab(t, &failover.Policy{}, "one:1")
	var seen []any
	l.on("one:1", func(r *http.Request) (*http.Response, error) {
		seen = append(seen, r.Context().Value(key{}), caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey) != nil, r.Context().Value(caddyhttp.OriginalRequestCtxKey) != nil)
		return respond(r, http.StatusOK, ""), nil
	})
	l.callWith(client, http.MethodGet, "/", "")
	if !slices.Equal(seen, []any{"value", true, true}) {
		t.Errorf("got %v", seen)
	}
}

// TestHowBodiesEnd checks that a whole body counts as the endpoint's success, even if the client
// leaves before it sees the body's end.
func TestHowBodiesEnd(t *testing.T) {
	for name, test := range map[string]struct {
		body  io.ReadCloser
		leave bool
		want  totals
	}{
		"none":                                {http.NoBody, false, totals{Attempts: 1, Successes: 1}},
		"whole":                               {io.NopCloser(strings.NewReader("whole")), false, totals{Attempts: 1, Successes: 1}},
		"whole, but the client has left":      {io.NopCloser(strings.NewReader("whole")), true, totals{Attempts: 1, Successes: 1}},
		"broken":                              {io.NopCloser(broken{}), false, totals{Attempts: 1, Failures: 1}},
		"broken, because the client has left": {io.NopCloser(broken{}), true, totals{Attempts: 1, Cancelled: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, &failover.Policy{}, "one:1")
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
			if got := l.endpoint("one:1").totals(); got != test.want {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
			if n := l.endpoint("one:1").inFlight(); n != 0 {
				t.Errorf("%d in flight", n)
			}
		})
	}
}

// leavingBody is a body whose client leaves before each read.
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
