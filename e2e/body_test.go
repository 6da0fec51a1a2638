package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// smallBody is the largest declared length of a body that is read before the first attempt.
const smallBody = 4 << 10

// readThenCut reads the request and drops the connection.
func readThenCut(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	cut(w, r)
}

// TestBodiesUpToTheBufferAreSentAgainWhole checks bodies at the limit and below it, of known and unknown
// length, and endpoints that read all of a body or a part.
func TestBodiesUpToTheBufferAreSentAgainWhole(t *testing.T) {
	const limit = 100_000
	for name, fault := range map[string]http.HandlerFunc{
		"status after reading": func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprint(w, "the first endpoint's own words")
		},
		"status before reading": status(http.StatusServiceUnavailable),
		"cut in the middle": func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.CopyN(io.Discard, r.Body, r.ContentLength/2+1)
			cut(w, r)
		},
	} {
		t.Run(name, func(t *testing.T) {
			one, two := newAPI(t, "one"), newAPI(t, "two")
			one.behave(fault)
			p := startCaddy(t, site(fmt.Sprintf("breaker off\n\tretry {\n\t\tmethods any\n\t\tbuffer %d\n\t\tbudget 100%% 1000\n\t}", limit), one, two))
			for _, size := range []int{1, limit / 2, limit - 1, limit} {
				body := randomBody(size)
				for _, reader := range bothWays(body) {
					p.callWith(http.MethodPost, "/", reader).want(t, fmt.Sprint(size, " bytes"), 200, "two"+digest(body))
				}
			}
		})
	}
}

// TestBodiesAboveTheBufferAreSentOnce checks that the client gets the endpoint's own failure.
func TestBodiesAboveTheBufferAreSentOnce(t *testing.T) {
	const limit = 50_000
	one, two := newAPI(t, "one"), newAPI(t, "two")
	one.answer(http.StatusServiceUnavailable, "X-From", "one")
	p := startCaddy(t, site(fmt.Sprintf("breaker off\n\tretry {\n\t\tmethods any\n\t\tbuffer %d\n\t}", limit), one, two))
	for _, size := range []int{limit + 1, 20 * limit} {
		for _, reader := range bothWays(randomBody(size)) {
			got := p.callWith(http.MethodPost, "/", reader)
			got.want(t, fmt.Sprint(size, " bytes"), 503, "one says 503")
			if from := got.header.Get("X-From"); from != "one" {
				t.Errorf("%d bytes: X-From is %q", size, from)
			}
		}
	}
}

// TestLongBodiesPassOverAnEndpointThatIsDown checks that a long body goes to the next endpoint if the
// first gets nothing of it.
func TestLongBodiesPassOverAnEndpointThatIsDown(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	one.down()
	p := startCaddy(t, site("breaker off\n\tretry {\n\t\tbuffer 1KB\n\t}", one, two))
	body := randomBody(1_000_000)
	for _, reader := range bothWays(body) {
		p.callWith(http.MethodPost, "/", reader).want(t, "a long body", 200, "two"+digest(body))
	}
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
	p.rest(reader).want(t, "after the body", 200, "two"+digest("a body"))
}

// TestASlowUploadSaysNothingAboutTheEndpoint checks that an upload of several timeouts is not held against
// the endpoint. A small body is complete before the attempt; a larger one passes through as it comes.
func TestASlowUploadSaysNothingAboutTheEndpoint(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	p := startCaddy(t, site("timeout 1100ms\n\tbreaker {\n\t\tmin_requests 1\n\t\tslow_ratio 10%\n\t\tslow_after 1s\n\t}"+retrying, one, two))
	for _, size := range []int{6, smallBody, smallBody + 3} {
		body := strings.Repeat("a", size)
		conn, reader := p.raw(fmt.Sprintf("POST / HTTP/1.1\nHost: api.test\nContent-Length: %d", size))
		for i := range 3 {
			pause(t.Context(), 500*time.Millisecond)
			fmt.Fprint(conn, body[i*size/3:(i+1)*size/3])
		}
		p.rest(reader).want(t, fmt.Sprint(size, " bytes"), 200, "one"+digest(body))
	}
	p.wantState("one", "closed")
	p.wantTotals("one", totals{Attempts: 3, Successes: 3})
}

// TestTheTimeoutRunsOnAfterASlowUpload checks that a slow upload does not use up the endpoint's timeout.
func TestTheTimeoutRunsOnAfterASlowUpload(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	defer one.hang()()
	p := startCaddy(t, site("timeout 500ms"+retrying, one, two))
	conn, reader := p.raw("POST / HTTP/1.1\nHost: api.test\nContent-Length: 6")
	pause(t.Context(), 700*time.Millisecond)
	if two.hits.Load() > 0 {
		t.Error("the call moved on before the upload was done")
	}
	sent := time.Now()
	fmt.Fprint(conn, "a body")
	p.rest(reader).want(t, "after the upload", 200, "two"+digest("a body"))
	if took := time.Since(sent); took < 300*time.Millisecond {
		t.Errorf("the call moved on %v after the upload, of a timeout of 500 ms", took)
	}
}

// TestRequestsAreForwardedAsTheyCome checks that the endpoint gets the first part of a body before the
// client sends the second; for small bodies of a declared length, only if the request asks for that.
func TestRequestsAreForwardedAsTheyCome(t *testing.T) {
	declared := fmt.Sprintf("Content-Length: %d", 3*smallBody)
	const chunked = "Transfer-Encoding: chunked"
	for _, framing := range []string{declared, "Content-Length: 21\nIncremental: ?1", "Content-Length: 21\nExpect: 100-continue", chunked} {
		t.Run(framing, func(t *testing.T) {
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
				case declared:
					part = strings.Repeat("x", smallBody-len(part)) + part
					fmt.Fprint(conn, part)
				case chunked:
					fmt.Fprintf(conn, "%x\r\n%s\r\n", len(part), part)
				default:
					fmt.Fprint(conn, part)
				}
				if line := receive(t, fmt.Sprint("part ", i), got); line != part {
					t.Fatalf("the endpoint got %q", line)
				}
			}
			if framing == chunked {
				fmt.Fprint(conn, "0\r\n\r\n")
			}
			p.rest(reader).want(t, "the answer", 200, "")
		})
	}
}

func TestRequestBuffersOfTheProxyStillWork(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	one.behave(readThenCut)
	p := startCaddy(t, site("request_buffers 10KiB\n\tbreaker off"+retrying, one, two))
	for _, size := range []int{10, 10 << 10, 100 << 10} { // held back whole, just so, and not
		body := randomBody(size)
		for _, reader := range bothWays(body) {
			p.callWith(http.MethodPost, "/", reader).want(t, fmt.Sprint(size, " bytes"), 200, "two"+digest(body))
		}
	}
}

// TestAClientThatAbortsItsUploadIsNoFailure checks also that no other endpoint gets the request.
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
		eventually(t, "the upload is under way", func() bool { return one.hits.Load() == int64(i+1) })
		conn.Close()
	}
	p.wantTotals("one", totals{Attempts: clients, Cancelled: clients})
	p.wantState("one", "closed")
	if hits := two.hits.Load(); hits != 0 {
		t.Errorf("the next endpoint got %d requests", hits)
	}
}

// TestASmallBodyThatDoesNotComeKeepsNoEndpointWaiting checks that no attempt begins before the body is complete.
func TestASmallBodyThatDoesNotComeKeepsNoEndpointWaiting(t *testing.T) {
	one := newAPI(t, "one")
	p := startCaddy(t, site("", one))
	const clients = 4
	for range clients {
		conn, _ := p.raw("POST / HTTP/1.1\nHost: api.test\nContent-Length: 100\n\nhalf of it")
		conn.Close()
	}
	eventually(t, "the calls count as cancelled", func() bool { return p.calls()["cancelled"] == clients })
	if calls := p.calls(); sum(calls) != clients {
		t.Errorf("calls are %v", calls)
	}
	p.wantTotals("one", totals{})
	if hits := one.hits.Load(); hits != 0 {
		t.Errorf("the endpoint got %d requests", hits)
	}
}

// TestASmallBodyArrivesWithItsHead checks that both go out in one write, even if the request must not be
// sent again.
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
	p := startCaddy(t, "respond ok")
	for _, options := range []string{"", retrying} {
		p.reload("failover {\n\tendpoint http://" + address + options + "\n}")
		for i := range 20 {
			body := fmt.Sprintf("body %d", i)
			p.call(http.MethodPost, "/", body)
			if got := receive(t, "the request", arrived); !strings.HasSuffix(got, body) {
				t.Fatalf("%q: the first read is %q", options, got)
			}
		}
	}
}

func TestABodyThatTheSiteLimitsIsTheClientsFault(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	p := startCaddy(t, "request_body {\n\tmax_size 1KB\n}\n"+site(retrying, one, two))
	if got := p.callWith(http.MethodPost, "/", unknownLength(randomBody(10_000))); got.status != http.StatusRequestEntityTooLarge {
		t.Errorf("got %+v", got)
	}
	if got := p.one("one").totals; got.Failures != 0 || two.hits.Load() != 0 {
		t.Errorf("the endpoint has %+v, and the next got %d requests", got, two.hits.Load())
	}
}
