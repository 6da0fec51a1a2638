package failover

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// retrying lets any method be retried after any failure.
const retrying = "\n\tretry {\n\t\tmethods any\n\t}"

func randomBody(n int) string {
	body := make([]byte, n)
	for i := range body {
		body[i] = byte(rand.Uint32())
	}
	return string(body)
}

// unknownLength makes the client send a body in chunks.
func unknownLength(body string) io.Reader { return io.MultiReader(strings.NewReader(body)) }

// TestBodiesUpToTheBufferAreSentAgainWhole: at the limit and below it, of known
// and unknown length, whether the endpoint read all of it or some.
func TestBodiesUpToTheBufferAreSentAgainWhole(t *testing.T) {
	const limit = 100_000
	faults := map[string]http.HandlerFunc{
		"status after reading": func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprint(w, "the first endpoint's own words")
		},
		"status before reading": func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusServiceUnavailable)
		},
		"cut in the middle": func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.CopyN(io.Discard, r.Body, r.ContentLength/2+1)
			cut(w, r)
		},
	}
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) {
			one, two := newAPI(t, "one"), newAPI(t, "two")
			one.behave(fault)
			p := startCaddy(t, site(fmt.Sprintf("\n\tbreaker off\n\tretry {\n\t\tmethods any\n\t\tbuffer %d\n\t\tbudget 100%% 1000\n\t}", limit), one, two))
			for _, size := range []int{1, limit / 2, limit - 1, limit} {
				body := randomBody(size)
				for _, reader := range []io.Reader{strings.NewReader(body), unknownLength(body)} {
					resp, err := p.do(http.MethodPost, "/", reader)
					if err != nil {
						t.Fatalf("%d bytes: %v", size, err)
					}
					text, _ := io.ReadAll(resp.Body)
					resp.Body.Close()
					if resp.StatusCode != 200 || string(text) != "two"+digest(body) {
						t.Errorf("%d bytes: got %d %q", size, resp.StatusCode, text)
					}
				}
			}
		})
	}
}

// TestBodiesAboveTheBufferAreSentOnce: the failure is the endpoint's own.
func TestBodiesAboveTheBufferAreSentOnce(t *testing.T) {
	const limit = 50_000
	one, two := newAPI(t, "one"), newAPI(t, "two")
	one.answer(http.StatusServiceUnavailable, "X-From", "one")
	p := startCaddy(t, site(fmt.Sprintf("\n\tbreaker off\n\tretry {\n\t\tmethods any\n\t\tbuffer %d\n\t}", limit), one, two))
	for _, size := range []int{limit + 1, 20 * limit} {
		body := randomBody(size)
		for _, reader := range []io.Reader{strings.NewReader(body), unknownLength(body)} {
			resp, err := p.do(http.MethodPost, "/", reader)
			if err != nil {
				t.Fatal(err)
			}
			text, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			if resp.StatusCode != 503 || string(text) != "one says 503" || resp.Header.Get("X-From") != "one" {
				t.Errorf("%d bytes: got %d %q", size, resp.StatusCode, text)
			}
		}
	}
}

// TestLongBodiesPassOverAnEndpointThatIsDown: it got nothing of them.
func TestLongBodiesPassOverAnEndpointThatIsDown(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	one.down()
	p := startCaddy(t, site("\n\tbreaker off\n\tretry {\n\t\tbuffer 1KB\n\t}", one, two))
	body := randomBody(1_000_000)
	for _, reader := range []io.Reader{strings.NewReader(body), unknownLength(body)} {
		resp, err := p.do(http.MethodPost, "/", reader)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != 200 || string(text) != "two"+digest(body) {
			t.Errorf("got %d %q", resp.StatusCode, text)
		}
	}
}

// raw sends the head of a request on a connection of its own.
func (p *proxy) raw(head string) (net.Conn, *bufio.Reader) {
	p.t.Helper()
	conn, err := net.Dial("unix", p.socket)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	fmt.Fprint(conn, strings.ReplaceAll(head, "\n", "\r\n")+"\r\n\r\n")
	return conn, bufio.NewReader(conn)
}

// rest reads the answer to a raw request.
func (p *proxy) rest(r *bufio.Reader) answer {
	p.t.Helper()
	resp, err := http.ReadResponse(r, nil)
	for err == nil && resp.StatusCode < 200 {
		resp, err = http.ReadResponse(r, nil)
	}
	if err != nil {
		p.t.Fatalf("reading the answer: %v", err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatalf("reading the answer's body: %v", err)
	}
	return answer{resp.StatusCode, resp.Header, string(text)}
}

func TestExpect100ContinueIsAnsweredAndFailsOver(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	one.answer(http.StatusServiceUnavailable)
	p := startCaddy(t, site(retrying, one, two))
	conn, reader := p.raw("POST / HTTP/1.1\nHost: api.test\nContent-Length: 6\nExpect: 100-continue")
	wantLine(t, reader, "HTTP/1.1 100 Continue\r")
	for line := ""; line != "\r\n"; { // the proxy's own, or the endpoint's with headers
		var err error
		if line, err = reader.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	fmt.Fprint(conn, "a body")
	if got := p.rest(reader); got.status != 200 || got.body != "two"+digest("a body") {
		t.Errorf("got %+v", got)
	}
}

// TestASlowUploadSaysNothingAboutTheEndpoint: it takes several timeouts, but it
// is the client that is slow. A small body is in before the endpoint is asked, a larger
// one is passed on as it comes.
func TestASlowUploadSaysNothingAboutTheEndpoint(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	p := startCaddy(t, site("\n\ttimeout 200ms\n\tbreaker {\n\t\tmin_requests 1\n\t\tslow_ratio 10%\n\t\tslow_after 100ms\n\t}"+retrying, one, two))
	for _, size := range []int{6, smallBody, smallBody + 3} {
		body := strings.Repeat("a", size)
		conn, reader := p.raw(fmt.Sprintf("POST / HTTP/1.1\nHost: api.test\nContent-Length: %d", size))
		for i := range 3 {
			lasting(150 * time.Millisecond)
			fmt.Fprint(conn, body[i*size/3:(i+1)*size/3])
		}
		if got := p.rest(reader); got.status != 200 || got.body != "one"+digest(body) {
			t.Fatalf("got %+v", got)
		}
	}
	if state := stateOf(t, "api", "one").breakerNow(); state != stateClosed {
		t.Errorf("the breaker is %v", state)
	}
	if got, want := stateOf(t, "api", "one").totalsNow(), (totals{Attempts: 3, Successes: 3}); got != want {
		t.Errorf("the endpoint has %+v, want %+v", got, want)
	}
}

func TestTheTimeoutRunsOnAfterASlowUpload(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	defer one.hang()()
	p := startCaddy(t, site("\n\ttimeout 200ms"+retrying, one, two))
	conn, reader := p.raw("POST / HTTP/1.1\nHost: api.test\nContent-Length: 6")
	lasting(300 * time.Millisecond)
	fmt.Fprint(conn, "a body")
	sent := time.Now()
	if got := p.rest(reader); got.status != 200 || got.body != "two"+digest("a body") {
		t.Errorf("got %+v", got)
	}
	if took := time.Since(sent); took < 150*time.Millisecond || took > time.Second {
		t.Errorf("the call moved on %v after the upload", took)
	}
}

// TestRequestsAreForwardedAsTheyCome: the client sends the second part when the
// endpoint has the first. Small bodies of a declared length are, where it asks for that.
func TestRequestsAreForwardedAsTheyCome(t *testing.T) {
	for _, framing := range []string{
		fmt.Sprintf("Content-Length: %d", 3*smallBody),
		"Content-Length: 21\nIncremental: ?1",
		"Content-Length: 21\nExpect: 100-continue",
		"Transfer-Encoding: chunked",
	} {
		one := newAPI(t, "one")
		got := make(chan string)
		one.behave(func(w http.ResponseWriter, r *http.Request) {
			for lines := bufio.NewReader(r.Body); ; {
				line, err := lines.ReadString('\n')
				if err != nil {
					return
				}
				got <- line
			}
		})
		p := startCaddy(t, site(retrying, one))
		conn, reader := p.raw("POST / HTTP/1.1\nHost: api.test\n" + framing)
		for i := range 3 {
			part := fmt.Sprintf("part %d\n", i)
			switch framing {
			case fmt.Sprintf("Content-Length: %d", 3*smallBody):
				part = strings.Repeat("x", smallBody-len(part)) + part
				fmt.Fprint(conn, part)
			case "Transfer-Encoding: chunked":
				fmt.Fprintf(conn, "%x\r\n%s\r\n", len(part), part)
			default:
				fmt.Fprint(conn, part)
			}
			select {
			case line := <-got:
				if line != part {
					t.Fatalf("the endpoint got %q", line)
				}
			case <-time.After(5 * time.Second):
				t.Fatalf("%s: the endpoint has not got part %d", framing, i)
			}
		}
		if framing == "Transfer-Encoding: chunked" {
			fmt.Fprint(conn, "0\r\n\r\n")
		}
		if got := p.rest(reader); got.status != 200 {
			t.Errorf("got %+v", got)
		}
	}
}

func TestRequestBuffersOfTheProxyStillWork(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	one.behave(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		cut(w, r)
	})
	p := startCaddy(t, site("\n\trequest_buffers 10KiB\n\tbreaker off"+retrying, one, two))
	for _, size := range []int{10, 10 << 10, 100 << 10} { // held back whole, just so, and not
		body := randomBody(size)
		for _, reader := range []io.Reader{strings.NewReader(body), unknownLength(body)} {
			resp, err := p.do(http.MethodPost, "/", reader)
			if err != nil {
				t.Fatal(err)
			}
			text, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			if resp.StatusCode != 200 || string(text) != "two"+digest(body) {
				t.Errorf("%d bytes: got %d %q", size, resp.StatusCode, text)
			}
		}
	}
}

// TestAClientThatAbortsItsUploadIsNoFailure, and nobody else is asked.
func TestAClientThatAbortsItsUploadIsNoFailure(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	p := startCaddy(t, site(retrying, one, two))
	const clients = 8
	for i := range clients {
		framing := fmt.Sprintf("Content-Length: %d\n\nhalf of it", 2*smallBody)
		if i%2 == 1 {
			framing = "Transfer-Encoding: chunked\n\na\nhalf of it"
		}
		conn, _ := p.raw("POST / HTTP/1.1\nHost: api.test\n" + framing)
		eventually(t, 2*time.Second, "the upload is under way", func() bool { return one.hits.Load() == int64(i+1) })
		conn.Close()
	}
	state := stateOf(t, "api", "one")
	eventually(t, 2*time.Second, "nothing is in flight", func() bool { return state.inFlightNow() == 0 })
	if got, want := state.totalsNow(), (totals{Attempts: clients, Cancelled: clients}); got != want {
		t.Errorf("the endpoint has %+v, want %+v", got, want)
	}
	if state.breakerNow() != stateClosed || two.hits.Load() != 0 {
		t.Errorf("the breaker is %v, and the next endpoint got %d requests", state.breakerNow(), two.hits.Load())
	}
}

// TestASmallBodyThatDoesNotComeKeepsNoEndpointWaiting, whatever becomes of it.
func TestASmallBodyThatDoesNotComeKeepsNoEndpointWaiting(t *testing.T) {
	one := newAPI(t, "one")
	p := startCaddy(t, site("", one))
	const clients = 4
	for range clients {
		conn, _ := p.raw("POST / HTTP/1.1\nHost: api.test\nContent-Length: 100\n\nhalf of it")
		conn.Close()
	}
	pool := stateOf(t, "api", "one").pool
	eventually(t, 2*time.Second, "the calls count as cancelled", func() bool {
		pool.fold(time.Now())
		pool.mu.Lock()
		defer pool.mu.Unlock()
		calls := pool.calls.Counts()
		return calls.Cancelled == clients && calls.Calls == 0
	})
	if got := stateOf(t, "api", "one").totalsNow(); got != (totals{}) || one.hits.Load() != 0 {
		t.Errorf("the endpoint has %+v, and got %d requests", got, one.hits.Load())
	}
}

// TestASmallBodyArrivesWithItsHead, in one write, whether or not it may be sent again.
func TestASmallBodyArrivesWithItsHead(t *testing.T) {
	arrived := make(chan string, 1)
	address := listening(t, func(conn net.Conn) {
		buffer := make([]byte, 8<<10)
		for {
			n, err := conn.Read(buffer)
			if err != nil {
				return
			}
			arrived <- string(buffer[:n])
			fmt.Fprint(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}
	})
	for _, options := range []string{"", retrying} {
		p := startCaddy(t, "failover {\n\tendpoint http://"+address+options+"\n}")
		for i := range 20 {
			body := fmt.Sprintf("body %d", i)
			resp, err := p.do(http.MethodPost, "/", strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if got := <-arrived; !strings.HasSuffix(got, body) {
				t.Fatalf("%q: the first read is %q", options, got)
			}
		}
	}
}

func TestABodyThatTheSiteLimitsIsTheClientsFault(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	p := startCaddy(t, "request_body {\n\tmax_size 1KB\n}\n"+site(retrying, one, two))
	resp, err := p.do(http.MethodPost, "/", unknownLength(randomBody(10_000)))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("got %d", resp.StatusCode)
	}
	if got := stateOf(t, "api", "one").totalsNow(); got.Failures != 0 || two.hits.Load() != 0 {
		t.Errorf("the endpoint has %+v, and the next got %d requests", got, two.hits.Load())
	}
}
