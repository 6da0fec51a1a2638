package failover

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"testing"
	"time"
)

// brief is a timeout that streams outlast.
const brief = "\n\ttimeout 300ms"

// echo switches to a protocol in which the endpoint greets and then sends back
// what it gets.
func (a *api) echo(w http.ResponseWriter, r *http.Request) {
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(err)
	}
	defer conn.Close()
	fmt.Fprintf(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\nhello from %s\n", r.Header.Get("Upgrade"), a.name)
	rw.Flush()
	_, _ = io.Copy(conn, rw)
}

// upgrade opens a connection that has switched to another protocol.
func (p *proxy) upgrade(protocol string) (net.Conn, *bufio.Reader) {
	p.t.Helper()
	conn, err := net.Dial("unix", p.socket)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: api.test\r\nConnection: Upgrade\r\nUpgrade: %s\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n", protocol)
	reader := bufio.NewReader(conn)
	resp, err := http.ReadResponse(reader, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		p.t.Fatalf("got %s", resp.Status)
	}
	return conn, reader
}

func wantLine(t *testing.T, r *bufio.Reader, want string) {
	t.Helper()
	if line, err := r.ReadString('\n'); line != want+"\n" {
		t.Fatalf("got %q (%v), want %q", line, err, want)
	}
}

func TestUpgradedConnectionsAreInFlightUntilTheyClose(t *testing.T) {
	for _, protocol := range []string{"websocket", "something-else"} {
		t.Run(protocol, func(t *testing.T) {
			one, two := newAPI(t, "one"), newAPI(t, "two")
			one.behave(cut)
			two.behave(two.echo)
			p := startCaddy(t, site(brief, one, two))
			states := []*endpointState{stateOf(t, "api", "one"), stateOf(t, "api", "two")}
			conn, reader := p.upgrade(protocol)
			wantLine(t, reader, "hello from two")
			for i := range 3 { // longer than the timeout
				lasting(150 * time.Millisecond)
				fmt.Fprintf(conn, "message %d\n", i)
				wantLine(t, reader, fmt.Sprintf("message %d", i))
			}
			if n := states[1].inFlightNow(); n != 1 {
				t.Errorf("%d attempts are in flight while the connection is open", n)
			}
			conn.Close()
			eventually(t, 2*time.Second, "nothing is in flight", func() bool { return states[1].inFlightNow() == 0 })
			if got, want := states[1].totalsNow(), (totals{Attempts: 1, Successes: 1}); got != want {
				t.Errorf("the endpoint has %+v, want %+v", got, want)
			}
		})
	}
}

// TestUpgradedConnectionsCloseOneWayAtATime: a client that has said all it has
// to say still gets the rest of the answer.
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
	state := stateOf(t, "api", "one")
	eventually(t, 2*time.Second, "nothing is in flight", func() bool { return state.inFlightNow() == 0 })
	if got, want := state.totalsNow(), (totals{Attempts: 1, Successes: 1}); got != want {
		t.Errorf("the endpoint has %+v, want %+v", got, want)
	}
}

// TestStreamsAreFlushedAsTheyCome: the endpoint makes the second event only
// when the client has the first.
func TestStreamsAreFlushedAsTheyCome(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	one.answer(http.StatusServiceUnavailable)
	next := make(chan struct{})
	two.behave(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for i := range 4 {
			if i > 0 {
				select {
				case <-next:
				case <-time.After(5 * time.Second):
					return
				}
			}
			fmt.Fprintf(w, "data: %d\n", i)
			http.NewResponseController(w).Flush()
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
			if n := stateOf(t, "api", "two").inFlightNow(); n != 1 {
				t.Fatalf("%d attempts in flight in mid stream", n)
			}
			lasting(120 * time.Millisecond) // in all longer than the timeout
			next <- struct{}{}
		}
	}
	if rest, err := io.ReadAll(reader); err != nil || len(rest) > 0 {
		t.Errorf("at the end: %q, %v", rest, err)
	}
	eventually(t, time.Second, "nothing is in flight", func() bool { return stateOf(t, "api", "two").inFlightNow() == 0 })
	if got, want := stateOf(t, "api", "two").totalsNow(), (totals{Attempts: 1, Successes: 1}); got != want {
		t.Errorf("the endpoint has %+v, want %+v", got, want)
	}
}

func TestAnAnswerThatBreaksOffIsAFailureOfTheEndpoint(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	one.behave(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "1000")
		fmt.Fprint(w, "the beginning")
		http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	p := startCaddy(t, site("", one, two))
	resp, err := p.do(http.MethodGet, "/", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if text, err := io.ReadAll(resp.Body); err == nil {
		t.Errorf("the client got %q as if it were all", text)
	}
	if got, want := stateOf(t, "api", "one").totalsNow(), (totals{Attempts: 1, Failures: 1}); got != want {
		t.Errorf("the endpoint has %+v, want %+v", got, want)
	}
}

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
	p := startCaddy(t, site("\n\tretry {\n\t\tmethods any\n\t}", one, two))
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

// trailing makes the length of a body unknown.
type trailing struct{}

func (trailing) Read([]byte) (int, error) { return 0, io.EOF }

func TestHeadHasNoBodyAndIsOutOfFlight(t *testing.T) {
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
	for _, name := range []string{"one", "two"} {
		eventually(t, time.Second, "nothing is in flight", func() bool { return stateOf(t, "api", name).inFlightNow() == 0 })
	}
	if got := stateOf(t, "api", "two").totalsNow().Successes; got != 1 {
		t.Errorf("%d successes", got)
	}
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

// TestAClientThatLeavesIsNoFailure: whether it waits for the answer or reads it.
func TestAClientThatLeavesIsNoFailure(t *testing.T) {
	behaviours := map[string]func(*api) http.HandlerFunc{
		"before the answer": func(*api) http.HandlerFunc {
			return func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
		},
		"in the middle of it": func(*api) http.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) {
				for r.Context().Err() == nil {
					if _, err := fmt.Fprintln(w, "more"); err != nil {
						return
					}
					http.NewResponseController(w).Flush()
				}
			}
		},
	}
	for name, behaviour := range behaviours {
		t.Run(name, func(t *testing.T) {
			one, two := newAPI(t, "one"), newAPI(t, "two")
			one.behave(behaviour(one))
			p := startCaddy(t, site("", one, two))
			const clients = 10
			for range clients {
				hits := one.hits.Load()
				ctx, leave := context.WithCancel(t.Context())
				go func() {
					eventually(t, 2*time.Second, "the request is under way", func() bool { return one.hits.Load() > hits })
					lasting(5 * time.Millisecond)
					leave()
				}()
				r, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://api.test/", nil)
				resp, err := p.client.Do(r)
				if err == nil {
					_, _ = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
			}
			state := stateOf(t, "api", "one")
			eventually(t, 2*time.Second, "nothing is in flight", func() bool { return state.inFlightNow() == 0 })
			if got := state.totalsNow(); got.Failures != 0 || got.Attempts != clients || name == "before the answer" && got.Cancelled != clients {
				t.Errorf("the endpoint has %+v", got)
			}
			if state.breakerNow() != stateClosed || two.hits.Load() != 0 {
				t.Errorf("the breaker is %v, and the next endpoint got %d requests", state.breakerNow(), two.hits.Load())
			}
		})
	}
}

// TestTunnelsOutliveAReloadWhereTheProxySaysSo: they are closed at once, or stay
// and are in flight for as long as stream_close_delay keeps them.
func TestTunnelsOutliveAReloadWhereTheProxySaysSo(t *testing.T) {
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
			state := stateOf(t, "api", "one")
			if err := p.load(site(options, two)); err != nil {
				t.Fatal(err)
			}
			if delay {
				lasting(400 * time.Millisecond) // longer than the timeout
				fmt.Fprintln(conn, "still there?")
				wantLine(t, reader, "still there?")
				if n := state.inFlightNow(); n != 1 {
					t.Errorf("%d attempts are in flight after the reload", n)
				}
			}
			conn.Close()
			eventually(t, 2*time.Second, "nothing is in flight", func() bool { return state.inFlightNow() == 0 })
			if got := state.totalsNow(); got.Failures != 0 {
				t.Errorf("the endpoint has %+v", got)
			}
			if got := p.call("GET", "/", ""); got.body != "two" {
				t.Errorf("after the reload: got %+v", got)
			}
		})
	}
}
