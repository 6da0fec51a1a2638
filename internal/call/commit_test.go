package call

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/apifailover/caddy-failover/internal/answer"
	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/endpoint"
	"github.com/apifailover/caddy-failover/internal/memory"
	"github.com/apifailover/caddy-failover/internal/outcome"
	"github.com/apifailover/caddy-failover/internal/pool"
	"github.com/apifailover/caddy-failover/internal/target"
)

// closing counts how often a body is closed.
type closing struct {
	io.Reader
	closed int
}

func (c *closing) Close() error { c.closed++; return nil }

// loose returns an attempt that has begun, at an endpoint of no handler.
func loose(t *testing.T) *Attempt {
	memory.Bodies.SetLimit(256 << 20)
	c := &Call{Handler: &Handler{Handler: pool.Handler{Pool: newTestPool("loose")}}, Request: httptest.NewRequest(http.MethodGet, "/", nil), first: Attempt{Began: time.Now()}}
	c.Handler.Generation = new(pool.Generation)
	cfg := breaker.Defaults(time.Minute)
	c.Handler.Generation.Breaker.Store(&cfg)
	s := &endpoint.State{Owner: c.Handler.Pool}
	t.Cleanup(c.Handler.Pool.Outbox.Close)
	a := &Attempt{done: make(chan struct{}), Call: c, Target: &target.Target{Name: "one", State: s}, Timeout: time.Minute, Began: time.Now()}
	if !s.Acquire(a, time.Now(), c.Handler.BreakerConfig(), nil, endpoint.AdmitNormally) {
		t.Fatal("the endpoint does not admit the attempt")
	}
	a.Begin(context.Background(), 0)
	return a
}

// TestHeldBodies holds bodies with sizes around those of a piece and of the limit, which arrive in reads
// of several sizes, with and without a look at their start. Each must reach the client whole.
func TestHeldBodies(t *testing.T) {
	const limit = 3 * memory.LargestPiece
	sizes := []int{0, 1, 100, memory.LargestPiece - 1, memory.LargestPiece, memory.LargestPiece + 1, limit - 1, limit, limit + 1, limit + memory.LargestPiece, 10 * memory.LargestPiece}
	readers := map[string]func(io.Reader) io.Reader{
		"whole":     func(r io.Reader) io.Reader { return r },
		"half":      iotest.HalfReader,
		"early end": iotest.DataErrReader,
		"small":     func(r io.Reader) io.Reader { return &smallReader{r} },
	}
	for _, size := range sizes {
		want := make([]byte, size)
		for i := range want {
			want[i] = byte(rand.Uint32())
		}
		for name, reader := range readers {
			for _, look := range []bool{false, true} {
				a := loose(t)
				body := &closing{Reader: reader(bytes.NewReader(want))}
				resp := &http.Response{StatusCode: 200, Body: body}
				if look {
					_, e := never.Examine(200, nil)
					a.read(resp, e, nil)
					if got := resp.Body.(*held).total; got < int64(min(size, answer.LooksAt)) {
						t.Fatalf("%d bytes, %s: the look read %d", size, name, got)
					}
				}
				h, err := a.hold(resp, CommitRules{Body: true, Hold: limit})
				if err != nil {
					t.Fatal(err)
				}
				h.give(a, resp)
				// a body of limit+1 bytes may have ended too, if its end came with its last byte
				if ended := a.Target.State.Busy.Load() == 0; ended != (size <= limit) && size != limit+1 {
					t.Errorf("%d bytes, %s: the attempt has ended: %t", size, name, ended)
				}
				got, err := io.ReadAll(&smallReader{resp.Body})
				if err != nil || !bytes.Equal(got, want) {
					t.Fatalf("%d bytes, %s, look %t: got %d bytes (%v)", size, name, look, len(got), err)
				}
				resp.Body.Close()
				if body.closed == 0 || a.Target.State.Busy.Load() != 0 || a.Outcome != outcome.Success {
					t.Errorf("%d bytes, %s: closed %d times, outcome %v", size, name, body.closed, a.Outcome)
				}
			}
		}
	}
}

// smallReader makes reads of 1 to 1000 bytes.
type smallReader struct{ io.Reader }

func (r *smallReader) Read(p []byte) (int, error) {
	return r.Reader.Read(p[:min(len(p), 1+rand.IntN(1000))])
}

// TestHeldBodiesThatBreak checks that a body that breaks within the limit is an error of hold, and that one
// that breaks later is an error of Read, after the bytes before it.
func TestHeldBodiesThatBreak(t *testing.T) {
	const limit = 2 * memory.LargestPiece
	broken := errors.New("broken")
	for size, early := range map[int]bool{0: true, 1: true, memory.LargestPiece: true, limit: true, limit + 1: false, 5 * memory.LargestPiece: false} {
		a := loose(t)
		body := &closing{Reader: io.MultiReader(strings.NewReader(strings.Repeat("x", size)), iotest.ErrReader(broken))}
		resp := &http.Response{StatusCode: 200, Body: body}
		h, err := a.hold(resp, CommitRules{Body: true, Hold: limit})
		if early {
			if outcome.OfError(err) != outcome.Truncated || !errors.Is(err, broken) {
				t.Errorf("%d bytes: got %v", size, err)
			}
			a.Settle(time.Now(), outcome.Truncated, true)
			continue
		}
		h.give(a, resp)
		got, readErr := io.ReadAll(resp.Body)
		if err != nil || len(got) != size || readErr == nil || a.Outcome != outcome.Truncated {
			t.Errorf("%d bytes: got %v, then %d bytes and %v; outcome %v", size, err, len(got), readErr, a.Outcome)
		}
		resp.Body.Close()
	}
}

// TestSilenceOfTheEndpoint checks that only the time within reads counts as silence, not the client's time
// between them.
func TestSilenceOfTheEndpoint(t *testing.T) {
	a := loose(t)
	a.Call.Handler.Idle = time.Second
	a.Answered(a.Began)
	at := func(d time.Duration) time.Time { return a.Began.Add(d) }
	for _, step := range []struct {
		event string
		at    time.Duration
		want  endpoint.Ending
	}{
		{"", 10 * time.Second, endpoint.NotEnded}, // no read is under way
		{"read", 10 * time.Second, endpoint.NotEnded},
		{"", 10900 * time.Millisecond, endpoint.NotEnded},
		{"got", 10950 * time.Millisecond, endpoint.NotEnded},
		{"", 20 * time.Second, endpoint.NotEnded},
		{"read", 20 * time.Second, endpoint.NotEnded},
		{"", 20999 * time.Millisecond, endpoint.NotEnded},
		{"", 21 * time.Second, endpoint.EndedByIdle},
	} {
		switch step.event {
		case "read":
			a.silenceBegins(at(step.at))
		case "got":
			a.silenceEnds()
		}
		if got := a.overdue(at(step.at)); got != step.want {
			t.Errorf("at %v: %v, want %v", step.at, got, step.want)
		}
	}
	a.Call.Handler.Idle = 0
	if got := a.overdue(at(time.Hour)); got != endpoint.NotEnded {
		t.Errorf("without idle_timeout: %v", got)
	}
	a.set(holding)
	if got := a.overdue(at(time.Hour)); got != endpoint.EndedByIdle {
		t.Errorf("held, without idle_timeout: %v", got)
	}
	a.Call.first.Began, a.Call.Handler.Retry.Deadline = a.Began, 30*time.Second
	if got := a.overdue(at(31 * time.Second)); got != endpoint.EndedByDeadline {
		t.Errorf("held, at the deadline: %v", got)
	}
}

func BenchmarkBodyRead(b *testing.B) {
	for name, idle := range map[string]time.Duration{"plain": 0, "idle_timeout": time.Minute} {
		b.Run(name, func(b *testing.B) {
			a := &Attempt{done: make(chan struct{}), Call: &Call{Handler: &Handler{Rules: Rules{Idle: idle}}}, answer: io.NopCloser(endless{}), Began: time.Now()}
			body := (*responseBody)(a)
			p := make([]byte, 32<<10)
			for b.Loop() {
				if _, err := body.Read(p); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// never has a rule that no body matches, so that a look reads as much as it may.
var never = answer.NewRules([]answer.Rule{{Status: only(200), Text: regexp.MustCompile("^never$"), As: answer.Next}})

// only returns the set of one status.
func only(code int) *outcome.StatusSet {
	var set outcome.StatusSet
	set[code-100] = true
	return &set
}

// newTestPool returns a pool whose control loop does not run.
func newTestPool(name string) *pool.Pool {
	p := pool.New(name)
	p.Loop.Wake = make(chan struct{}, 1)
	return p
}
