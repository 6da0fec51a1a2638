package failover

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/apifailover/caddy-failover/internal/breaker"
	mem "github.com/apifailover/caddy-failover/internal/memory"
	"github.com/apifailover/caddy-failover/internal/outcome"
)

// closing counts how often a body is closed.
type closing struct {
	io.Reader
	closed int
}

func (c *closing) Close() error { c.closed++; return nil }

// loose is an attempt that belongs to no pool but has a state.
func loose(t *testing.T) *attempt {
	bodies.SetLimit(256 << 20)
	c := &call{handler: new(callHandler), first: attempt{began: time.Now()}}
	c.handler.generation = new(generation)
	cfg := breaker.Defaults(time.Minute)
	c.handler.generation.breaker.Store(&cfg)
	s := &endpointState{owner: newTestPool("loose")}
	t.Cleanup(func() { s.owner.(*pool).outbox.Close() })
	a := &attempt{call: c, target: &target{name: "one", state: s}, timeout: time.Minute}
	if !s.acquire(a, time.Now(), c.handler.breakerConfig(), 0, admitNormally) {
		t.Fatal("not admitted")
	}
	a.begin(context.Background(), time.Now(), 0)
	return a
}

// TestHeldBodies holds bodies of all sizes around those of a piece and of the limit,
// which come in reads of all sizes, some of them after a look at their start.
func TestHeldBodies(t *testing.T) {
	const limit = 3 * mem.LargestPiece
	sizes := []int{0, 1, 100, mem.LargestPiece - 1, mem.LargestPiece, mem.LargestPiece + 1, limit - 1, limit, limit + 1, limit + mem.LargestPiece, 10 * mem.LargestPiece}
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
			for _, peek := range []int64{-1, 0, 10, bodyLooks} {
				a := loose(t)
				body := &closing{Reader: reader(bytes.NewReader(want))}
				resp := &http.Response{StatusCode: 200, Body: body}
				if peek >= 0 {
					if got := a.peek(resp, peek); !bytes.HasPrefix(want, got) || int64(len(got)) != min(peek, int64(size)) {
						t.Fatalf("%d bytes, %s: a look at %d sees %d", size, name, peek, len(got))
					}
				}
				if err := a.hold(resp, commitRules{body: true, hold: limit}); err != nil {
					t.Fatal(err)
				}
				// with its end, a body one larger is whole as well
				if ended := a.target.state.busy.Load() == 0; ended != (size <= limit) && size != limit+1 {
					t.Errorf("%d bytes, %s: ended %t while held", size, name, ended)
				}
				got, err := io.ReadAll(&smallReader{resp.Body})
				if err != nil || !bytes.Equal(got, want) {
					t.Fatalf("%d bytes, %s, peek %d: got %d bytes (%v)", size, name, peek, len(got), err)
				}
				resp.Body.Close()
				if body.closed == 0 || a.target.state.busy.Load() != 0 || a.outcome != outcome.Success {
					t.Errorf("%d bytes, %s: closed %d times, outcome %v", size, name, body.closed, a.outcome)
				}
			}
		}
	}
}

// smallReader reads up to 1000 bytes at once.
type smallReader struct{ io.Reader }

func (r *smallReader) Read(p []byte) (int, error) {
	return r.Reader.Read(p[:min(len(p), 1+rand.IntN(1000))])
}

// TestHeldBodiesThatBreak wants the error at once within the limit, and in its place
// after it.
func TestHeldBodiesThatBreak(t *testing.T) {
	const limit = 2 * mem.LargestPiece
	broken := errors.New("broken")
	for size, early := range map[int]bool{0: true, 1: true, mem.LargestPiece: true, limit: true, limit + 1: false, 5 * mem.LargestPiece: false} {
		a := loose(t)
		body := &closing{Reader: io.MultiReader(strings.NewReader(strings.Repeat("x", size)), iotest.ErrReader(broken))}
		resp := &http.Response{StatusCode: 200, Body: body}
		err := a.hold(resp, commitRules{body: true, hold: limit})
		if early {
			if outcome.OfError(err) != outcome.Truncated || !errors.Is(err, broken) {
				t.Errorf("%d bytes: got %v", size, err)
			}
			a.settle(time.Now(), outcome.Truncated, true)
			continue
		}
		got, readErr := io.ReadAll(resp.Body)
		if err != nil || len(got) != size || readErr == nil || a.outcome != outcome.Truncated {
			t.Errorf("%d bytes: got %v, then %d bytes and %v; outcome %v", size, err, len(got), readErr, a.outcome)
		}
		resp.Body.Close()
	}
}

// TestSilenceIsTheEndpoints: what a client takes between its reads is no silence.
func TestSilenceIsTheEndpoints(t *testing.T) {
	a := loose(t)
	a.call.handler.idle = time.Second
	a.answered(a.began)
	at := func(d time.Duration) time.Time { return a.began.Add(d) }
	for _, step := range []struct {
		event string
		at    time.Duration
		want  ending
	}{
		{"", 10 * time.Second, notEnded}, // nobody reads
		{"read", 10 * time.Second, notEnded},
		{"", 10900 * time.Millisecond, notEnded},
		{"got", 10950 * time.Millisecond, notEnded},
		{"", 20 * time.Second, notEnded},
		{"read", 20 * time.Second, notEnded},
		{"", 20999 * time.Millisecond, notEnded},
		{"", 21 * time.Second, endedByIdle},
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
	a.call.handler.idle = 0
	if got := a.overdue(at(time.Hour)); got != notEnded {
		t.Errorf("without idle_timeout: %v", got)
	}
	a.set(holding)
	if got := a.overdue(at(time.Hour)); got != endedByIdle {
		t.Errorf("held, without idle_timeout: %v", got)
	}
	a.call.first.began, a.call.handler.retry.deadline = a.began, 30*time.Second
	if got := a.overdue(at(31 * time.Second)); got != endedByDeadline {
		t.Errorf("held, at the deadline: %v", got)
	}
}

func BenchmarkBodyRead(b *testing.B) {
	for name, idle := range map[string]time.Duration{"plain": 0, "idle_timeout": time.Minute} {
		b.Run(name, func(b *testing.B) {
			a := &attempt{call: &call{handler: &callHandler{callRules: callRules{idle: idle}}}, answer: io.NopCloser(endless{}), began: time.Now()}
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
