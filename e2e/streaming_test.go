package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"os"
	"strings"
	"testing"
	"time"
)

// brief is a timeout that is shorter than the tests' streams. They pause for beat between messages.
const (
	brief = "timeout 1s"
	beat  = 400 * time.Millisecond
)

func TestUpgradedConnectionsAreInFlightUntilTheyClose(t *testing.T) {
	for _, protocol := range []string{"websocket", "something-else"} {
		t.Run(protocol, func(t *testing.T) {
			one, two := newAPI(t, "one"), newAPI(t, "two")
			one.behave(cut)
			two.behave(two.echo)
			p := startCaddy(t, site(brief, one, two))
			conn, reader := p.upgrade(protocol)
			wantLine(t, reader, "hello from two")
			for i := range 3 { // in all longer than the timeout
				pause(t.Context(), beat)
				fmt.Fprintf(conn, "message %d\n", i)
				wantLine(t, reader, fmt.Sprintf("message %d", i))
			}
			if n := p.one("two").InFlight; n != 1 {
				t.Errorf("%d attempts are in flight while the connection is open", n)
			}
			conn.Close()
			p.wantTotals("two", totals{Attempts: 1, Successes: 1})
			p.quiet()
		})
	}
}

// TestUpgradedConnectionsCloseOneWayAtATime checks that a client that has closed its side still gets the rest of what
// the endpoint sends.
func TestUpgradedConnectionsCloseOneWayAtATime(t *testing.T) {
	one := newAPI(t, "one")
	one.behave(func(w http.ResponseWriter, r *http.Request) {
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		defer conn.Close()
		fmt.Fprint(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: pipe\r\n\r\n")
		rw.Flush()
		said, err := io.ReadAll(rw)
		fmt.Fprintf(conn, "you said %q, %v\n", said, err)
	})
	p := startCaddy(t, site(brief, one))
	conn, reader := p.upgrade("pipe")
	fmt.Fprint(conn, "all of it")
	if err := conn.(*net.UnixConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	wantLine(t, reader, `you said "all of it", <nil>`)
	if rest, err := io.ReadAll(reader); len(rest) > 0 {
		t.Errorf("got %q (%v) after the endpoint hung up", rest, err)
	}
	p.wantTotals("one", totals{Attempts: 1, Successes: 1})
}

// TestStreamsAreFlushedAtOnce checks that the client gets each event before the endpoint sends the next one.
func TestStreamsAreFlushedAtOnce(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	one.answer(http.StatusServiceUnavailable)
	next := make(chan struct{})
	two.behave(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for i := range 4 {
			if i > 0 {
				select {
				case <-next:
				case <-r.Context().Done():
					return
				}
			}
			fmt.Fprintf(w, "data: %d\n", i)
			flush(w)
		}
	})
	p := startCaddy(t, site(brief, one, two))
	resp, err := p.do(http.MethodGet, "/", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	reader := bufio.NewReader(resp.Body)
	for i := range 4 {
		wantLine(t, reader, fmt.Sprintf("data: %d", i))
		if i < 3 {
			if n := p.one("two").InFlight; n != 1 {
				t.Fatalf("%d attempts are in flight during the stream", n)
			}
			pause(t.Context(), beat) // in all longer than the timeout
			next <- struct{}{}
		}
	}
	if rest, err := io.ReadAll(reader); err != nil || len(rest) > 0 {
		t.Errorf("after the last event: %q, %v", rest, err)
	}
	p.wantTotals("two", totals{Attempts: 1, Successes: 1})
}

func TestAnAnswerThatBreaksOffIsAFailureOfTheEndpoint(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	one.behave(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "1000")
		fmt.Fprint(w, "the beginning")
		flush(w)
		panic(http.ErrAbortHandler)
	})
	p := startCaddy(t, site("", one, two))
	resp, err := p.do(http.MethodGet, "/", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if text, err := io.ReadAll(resp.Body); err == nil {
		t.Errorf("the client got %q as a whole body", text)
	}
	p.wantTotals("one", totals{Attempts: 1, Failures: 1})
}

// trailing makes the length of a body unknown.
type trailing struct{}

func (trailing) Read([]byte) (int, error) { return 0, io.EOF }

func TestTrailersPassBothWaysAlsoOnFailover(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	one.answer(http.StatusServiceUnavailable)
	two.behave(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-Announced")
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s with trailer %s", body, r.Trailer.Get("X-Sum"))
		w.Header().Set("X-Announced", "yes")
		w.Header().Set(http.TrailerPrefix+"X-Late", "also")
	})
	p := startCaddy(t, site(retrying, one, two))
	r, _ := http.NewRequest(http.MethodPost, "http://api.test/", io.MultiReader(strings.NewReader("a body"), trailing{}))
	r.Trailer = http.Header{"X-Sum": {"42"}}
	resp, err := p.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || string(text) != "a body with trailer 42" {
		t.Errorf("got %q, %v", text, err)
	}
	for field, want := range map[string]string{"X-Announced": "yes", "X-Late": "also"} {
		if got := resp.Trailer.Get(field); got != want {
			t.Errorf("trailer %s is %q, want %q", field, got, want)
		}
	}
}

func TestHEADHasNoBody(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	one.answer(http.StatusServiceUnavailable)
	two.behave(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "123456")
		w.Header().Set("X-Method", r.Method)
	})
	p := startCaddy(t, site("", one, two))
	got := p.call(http.MethodHead, "/", "")
	if got.status != 200 || got.body != "" || got.header.Get("Content-Length") != "123456" || got.header.Get("X-Method") != "HEAD" {
		t.Errorf("got %+v", got)
	}
	p.wantTotals("one", totals{Attempts: 1, Failures: 1})
	p.wantTotals("two", totals{Attempts: 1, Successes: 1})
}

func TestInformationalAnswersPass(t *testing.T) {
	one := newAPI(t, "one")
	one.behave(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</style.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Del("Link")
		fmt.Fprint(w, "done")
	})
	p := startCaddy(t, site("", one))
	var hints []string
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
		Got1xxResponse: func(code int, header textproto.MIMEHeader) error {
			hints = append(hints, fmt.Sprint(code, header.Get("Link")))
			return nil
		},
	})
	r, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://api.test/", nil)
	resp, err := p.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	if len(hints) != 1 || hints[0] != "103</style.css>; rel=preload" || string(text) != "done" || resp.Header.Get("Link") != "" {
		t.Errorf("got %v then %q %v", hints, text, resp.Header)
	}
}

// TestAClientThatLeavesIsNoFailure checks clients that leave before the response and during it.
func TestAClientThatLeavesIsNoFailure(t *testing.T) {
	for name, behaviour := range map[string]http.HandlerFunc{
		"before the response": silent,
		"during the response": func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := fmt.Fprintln(w, "more"); err != nil {
					return
				}
				flush(w)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			one, two := newAPI(t, "one"), newAPI(t, "two")
			one.behave(behaviour)
			p := startCaddy(t, site("", one, two))
			const clients = 10
			for range clients {
				hits := one.hits.Load()
				leave, left := p.leaving(http.MethodGet, "/")
				eventually(t, "the request is under way", func() bool { return one.hits.Load() > hits })
				pause(t.Context(), 5*time.Millisecond)
				leave()
				receive(t, "the client's end", left)
			}
			p.quiet()
			if got := p.one("one").totals; got.Failures != 0 || got.Attempts != clients || name == "before the response" && got.Cancelled != clients {
				t.Errorf("the endpoint has %+v", got)
			}
			p.wantState("one", "closed")
			if hits := two.hits.Load(); hits != 0 {
				t.Errorf("the next endpoint got %d requests", hits)
			}
		})
	}
}

// TestTunnelsOutliveAReloadByStreamCloseDelay checks that a reload closes tunnels unless stream_close_delay keeps them
// open, and that these stay in flight at an endpoint that both configurations have.
func TestTunnelsOutliveAReloadByStreamCloseDelay(t *testing.T) {
	for _, delay := range []bool{false, true} {
		t.Run(fmt.Sprintf("stream_close_delay %t", delay), func(t *testing.T) {
			one, two := newAPI(t, "one"), newAPI(t, "two")
			one.behave(one.echo)
			options := brief
			if delay {
				options += "\n\tstream_close_delay 30s"
			}
			p := startCaddy(t, site(options, one))
			conn, reader := p.upgrade("websocket")
			wantLine(t, reader, "hello from one")
			p.reload(edited("api", options, []*api{two, one}, "priority 1", "priority 2"))
			if delay {
				pause(t.Context(), 1200*time.Millisecond) // longer than the timeout
				fmt.Fprintln(conn, "still there?")
				wantLine(t, reader, "still there?")
				if n := p.one("one").InFlight; n != 1 {
					t.Errorf("%d attempts are in flight after the reload", n)
				}
				conn.Close()
			} else if _, err := io.ReadAll(reader); os.IsTimeout(err) {
				t.Error("after the reload the tunnel is still open")
			}
			p.wantTotals("one", totals{Attempts: 1, Successes: 1})
			p.get().want(t, "after the reload", 200, "two")
		})
	}
}

// TestTunnelsOutliveTheirEndpoint checks that a tunnel stays open if the new configuration does not have its endpoint.
func TestTunnelsOutliveTheirEndpoint(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	one.behave(one.echo)
	const options = brief + "\n\tstream_close_delay 30s"
	p := startCaddy(t, site(options, one))
	conn, reader := p.upgrade("websocket")
	wantLine(t, reader, "hello from one")
	p.reload(site(options, two))
	pause(t.Context(), 1200*time.Millisecond) // longer than the timeout
	fmt.Fprintln(conn, "still there?")
	wantLine(t, reader, "still there?")
	conn.Close()
	p.get().want(t, "after the reload", 200, "two")
}
