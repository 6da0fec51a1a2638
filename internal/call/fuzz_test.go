package call

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/endpoint"
	"github.com/apifailover/caddy-failover/internal/outcome"
	"github.com/apifailover/caddy-failover/internal/pool"
	"github.com/apifailover/caddy-failover/internal/target"
)

// FuzzErrorEvent checks that a stream that breaks has the same bytes, then one error event separate from
// whatever was before it, and then the error; and that a stream that does not break is unchanged.
func FuzzErrorEvent(f *testing.F) {
	f.Add([]byte("data: {\"a\":1}\n\ndata: {\"b"), true, uint8(7))
	f.Add([]byte("event: x\r\ndata: y\r"), true, uint8(1))
	f.Add([]byte("data: [DONE]\n\n"), false, uint8(200))
	p := newTestPool("fuzz")
	f.Cleanup(p.Outbox.Close)
	f.Fuzz(func(t *testing.T, text []byte, breaks bool, size uint8) {
		h := &Handler{Handler: pool.Handler{Pool: p, Generation: new(pool.Generation)}}
		cfg := new(breaker.Defaults(2 * time.Second))
		h.Generation.Breaker.Store(cfg)
		c := &Call{Handler: h, Request: httptest.NewRequest(http.MethodGet, "/", nil)}
		a := &Attempt{done: make(chan struct{}), client: t.Context(), Began: time.Now(), Call: c, Target: &target.Target{Name: "e", State: &endpoint.State{Owner: p}}}
		if !a.Target.State.Acquire(a, a.Began, cfg, nil, endpoint.AdmitNormally) {
			t.Fatal("the endpoint does not admit the attempt")
		}
		a.Begin(t.Context(), 0)
		end := io.EOF
		if breaks {
			end = io.ErrUnexpectedEOF
		}
		a.answer = io.NopCloser(&endingIn{bytes.NewReader(text), end})
		body := &sseBody{responseBody: (*responseBody)(a)}
		var got []byte
		var err error
		for buffer := make([]byte, int(size)+1); err == nil; {
			var n int
			n, err = body.Read(buffer)
			got = append(got, buffer[:n]...)
		}
		rest, ok := bytes.CutPrefix(got, text)
		if !ok {
			t.Fatalf("%q became %q", text, got)
		}
		if !breaks {
			if err != io.EOF || len(rest) > 0 {
				t.Fatalf("%q became %q, %v", text, got, err)
			}
			return
		}
		if _, ok := err.(*brokenBody); !ok {
			t.Fatalf("the stream ends with %v", err)
		}
		event, ok := strings.CutPrefix(string(rest), "\n\nevent: error\ndata: ")
		data, ok2 := strings.CutSuffix(event, "\n\n")
		var answer struct {
			Type  string
			Error struct{ Type, Code, Message string }
		}
		if !ok || !ok2 || strings.Contains(data, "\n") || json.Unmarshal([]byte(data), &answer) != nil ||
			answer.Type != "error" || answer.Error.Code != outcome.Truncated.String() || answer.Error.Message == "" {
			t.Fatalf("the event is %q", rest)
		}
	})
}

// endingIn returns err in place of io.EOF.
type endingIn struct {
	r   io.Reader
	err error
}

func (e *endingIn) Read(p []byte) (int, error) {
	n, err := e.r.Read(p)
	if err == io.EOF {
		err = e.err
	}
	return n, err
}
