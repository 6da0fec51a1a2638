package lab

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

const token = "data: {\"choices\":[{\"delta\":{\"content\":\"word\"}}]}\n\n"

// sends answers with a stream of n parts: the first at once, the others a pause apart.
func sends(n int, apart time.Duration, part string) roundTrip {
	return func(r *http.Request) (*http.Response, error) {
		return streamOf(r, func(ctx context.Context, w io.Writer) error {
			for i := range n {
				if i > 0 {
					if err := pauseFor(ctx, apart); err != nil {
						return err
					}
				}
				if _, err := io.WriteString(w, part); err != nil {
					return err
				}
			}
			return nil
		}), nil
	}
}

// A streamLab has two endpoints whose streams are watched.
type streamLab struct{ *lab }

const streamSite = "failover {\nname lab\nendpoint http://one:1 {\nname one\n}\nendpoint http://two:1 {\nname two\n}\n%s\n}"

func (l streamLab) ask(path string) {
	_ = l.serve(discards{httptest.NewRecorder()}, newRequest(context.Background(), http.MethodGet, path, nil))
}

// discards is a client that keeps nothing of an answer's body.
type discards struct{ *httptest.ResponseRecorder }

func (discards) Write(p []byte) (int, error)       { return len(p), nil }
func (discards) WriteString(s string) (int, error) { return len(s), nil }

// many asks for n streams, a few at a time.
func (l streamLab) many(n int, path string) {
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() { l.ask(path) })
		time.Sleep(50 * time.Millisecond)
	}
	wg.Wait()
}

func (l streamLab) wantClosed(when string) {
	l.t.Helper()
	if moves := l.endpoint("one").moves(); len(moves) > 0 {
		l.t.Errorf("%s: %+v", when, moves)
	}
}

func inStreamLab(t *testing.T, options string, play func(t *testing.T, l streamLab)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l := streamLab{openLab(t, fmt.Sprintf(streamSite, options))}
		defer l.close()
		play(t, l)
		synctest.Wait()
	})
}

// TestSlowStreamsLoseTheNextCalls has the primary send tokens at 1/100 of their usual rate, with the
// first one on time. It must lose its calls within 20 streams, sequential or concurrent, and get few
// while it stays slow.
func TestSlowStreamsLoseTheNextCalls(t *testing.T) {
	for _, test := range []struct {
		options  string
		tokens   int
		together bool
	}{
		{"", 60, false}, {"", 60, true}, {"", 30, false},
		{"commit first_event", 60, false}, {"commit first_event", 60, true},
		{"commit complete", 60, false}, {"commit complete", 60, true},
		{"idle_timeout 30s", 60, false},
	} {
		t.Run(fmt.Sprintf("%s, %d tokens, together %t", test.options, test.tokens, test.together), func(t *testing.T) {
			inStreamLab(t, test.options, func(t *testing.T, l streamLab) {
				l.on("one:1", sends(test.tokens, 20*time.Millisecond, token))
				l.many(120, "/")
				l.wantClosed("tokens come as usual")
				l.on("one:1", sends(test.tokens, 2*time.Second, token))
				slow := 0
				for len(l.endpoint("one").moves()) == 0 && slow < 25 {
					slow++
					if test.together {
						go l.ask("/")
						time.Sleep(time.Second)
					} else {
						l.ask("/")
					}
				}
				moves := l.endpoint("one").moves()
				if slow > 20 || len(moves) == 0 || moves[0].Reason != "slower_than_usual" || moves[0].Details["limit_bytes_per_second"] == nil {
					t.Fatalf("after %d slow streams: %+v", slow, moves)
				}
				if n := l.atOne(300); n > 30 {
					t.Errorf("after %d slow streams it has %d of 300 calls in a minute", slow, n)
				}
				l.on("one:1", sends(test.tokens, 20*time.Millisecond, token))
				l.within(5*time.Minute, "it is back", func() bool {
					l.ask("/")
					return l.endpoint("one").state() == "closed"
				})
				time.Sleep(3 * time.Minute) // slow streams end
			})
		})
	}
}

// atOne asks for n streams, one each 200 ms, and returns how many the first endpoint gets.
func (l streamLab) atOne(n int) (got int) {
	l.takeAsked()
	for range n {
		go l.ask("/")
		time.Sleep(200 * time.Millisecond)
	}
	for _, name := range l.takeAsked() {
		if name == "one:1" {
			got++
		}
	}
	return got
}

// TestWhatLooksLikeASlowStream checks that streams that only look slow open no breaker.
func TestWhatLooksLikeASlowStream(t *testing.T) {
	usual := sends(60, 20*time.Millisecond, token)
	for name, test := range map[string]struct {
		usual, then roundTrip
		path        string
	}{
		"silent by design":        {usual, sends(10, 5*time.Minute, token), "/events"},
		"an event each 20 s":      {usual, sends(10, 20*time.Second, token), "/events"},
		"heartbeats":              {usual, sends(60, 15*time.Second, ": still here\n\n"), "/events"},
		"pings":                   {usual, sends(60, 10*time.Second, "event: ping\ndata: {}\n\n"), "/events"},
		"small":                   {usual, sends(3, 30*time.Millisecond, "x"), "/small"},
		"small, a second in all":  {usual, sends(5, 250*time.Millisecond, "x"), "/small"},
		"a third of the rate":     {usual, sends(60, 60*time.Millisecond, token), "/"},
		"always as slow":          {sends(8, 2*time.Second, token), sends(8, 2*time.Second, token), "/"},
		"fast, and then 200 KB/s": {sends(20, 50*time.Millisecond, strings.Repeat("x", 256<<10)), sends(60, 50*time.Millisecond, strings.Repeat("x", 10<<10)), "/"},
	} {
		t.Run(name, func(t *testing.T) {
			inStreamLab(t, "", func(t *testing.T, l streamLab) {
				l.on("one:1", test.usual)
				l.many(150, "/")
				l.on("one:1", test.then)
				l.many(40, test.path)
				l.wantClosed(name)
			})
		})
	}
}

// TestStreamsOfTwoKinds checks that streams that have always been slow open nothing.
func TestStreamsOfTwoKinds(t *testing.T) {
	inStreamLab(t, "", func(t *testing.T, l streamLab) {
		fast, slow := sends(60, 20*time.Millisecond, token), sends(8, 3*time.Second, token)
		l.on("one:1", func(r *http.Request) (*http.Response, error) {
			if r.URL.Path == "/events" {
				return slow(r)
			}
			return fast(r)
		})
		for range 30 {
			l.many(4, "/")
			l.many(1, "/events")
		}
		l.many(40, "/events")
		l.wantClosed("slow as ever")
	})
}

// TestSlowReadersAreNoSlowStreams has clients read at a hundredth of the endpoint's rate, in steps of
// several lengths, and then usual clients again. The slow ones' rates must not be the measure for them.
func TestSlowReadersAreNoSlowStreams(t *testing.T) {
	for _, pause := range []time.Duration{130 * time.Millisecond, 2 * time.Second, 10 * time.Second} {
		t.Run(pause.String(), func(t *testing.T) {
			inStreamLab(t, "", func(t *testing.T, l streamLab) {
				l.on("one:1", sends(60, 20*time.Millisecond, token))
				l.many(150, "/")
				var wg sync.WaitGroup
				for range 40 {
					wg.Go(func() { l.callInto(&slowWriter{httptest.NewRecorder(), pause, 0}, http.MethodGet, "/", nil) })
				}
				wg.Wait()
				l.many(40, "/")
				l.wantClosed("slow readers")
			})
		})
	}
}

// slowWriter is a client that takes its time for each part but the first, beside which the proxy flushes
// under the same mutex: a sleep under that would stop the bubble's clock.
type slowWriter struct {
	*httptest.ResponseRecorder
	pause time.Duration
	parts int
}

func (w *slowWriter) Write(p []byte) (int, error) {
	if w.parts++; w.parts > 1 {
		time.Sleep(w.pause)
	}
	return w.ResponseRecorder.Write(p)
}
