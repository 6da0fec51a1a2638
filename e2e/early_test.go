package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// hangingUp answers each request once it has read the head, and closes the connection with the body unread.
func hangingUp(t *testing.T, status int, body string) (address string) {
	t.Helper()
	return listening(t, func(conn net.Conn) {
		if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
			fmt.Fprintf(conn, "HTTP/1.1 %d %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", status, http.StatusText(status), len(body), body)
		}
	})
}

// sending sends a request in full, whatever breaks, and reads the answer meanwhile.
func (p *proxy) sending(method, body string, declared bool) answer {
	p.t.Helper()
	conn := p.dial()
	defer conn.Close()
	go func() {
		if declared {
			fmt.Fprintf(conn, "%s / HTTP/1.1\r\nHost: api.test\r\nContent-Length: %d\r\n\r\n%s", method, len(body), body)
			return
		}
		fmt.Fprintf(conn, "%s / HTTP/1.1\r\nHost: api.test\r\nTransfer-Encoding: chunked\r\n\r\n", method)
		for ; len(body) > 0; body = body[min(len(body), 10_000):] {
			part := body[:min(len(body), 10_000)]
			if _, err := fmt.Fprintf(conn, "%x\r\n%s\r\n", len(part), part); err != nil {
				return
			}
		}
		fmt.Fprint(conn, "0\r\n\r\n")
	}()
	return p.rest(bufio.NewReader(conn))
}

// TestAnEarlyAnswerIsAnAnswer checks that a final status that comes before the request was read reaches the client,
// and that the write that breaks afterwards is no failure.
func TestAnEarlyAnswerIsAnAnswer(t *testing.T) {
	const rounds = 16
	upload := randomBody(4 << 20)
	for _, size := range []int{3, 300_000} {
		said := strings.Repeat("x", size)
		early := func(code int) http.HandlerFunc {
			return func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(code)
				fmt.Fprint(w, said)
			}
		}
		raw := hangingUp(t, http.StatusRequestEntityTooLarge, said[:min(size, 20_000)])
		plain, encrypted := newAPI(t, "one"), newTLSAPI(t, "one")
		plain.behave(early(http.StatusRequestEntityTooLarge))
		encrypted.behave(early(http.StatusRequestEntityTooLarge))
		for name, test := range map[string]struct{ url, transport string }{
			"closed at once": {"http://" + raw, "versions 1.1"},
			"HTTP/1.1":       {"http://" + plain.address, "versions 1.1"},
			"with TLS":       {"https://" + encrypted.address, "versions 1.1\n\t\ttls_insecure_skip_verify"},
			"HTTP/2":         {"https://" + encrypted.address, "versions 2\n\t\ttls_insecure_skip_verify"},
		} {
			for _, commit := range []string{"headers", "first_byte", "complete"} {
				t.Run(fmt.Sprintf("%s, %d bytes, commit %s", name, size, commit), func(t *testing.T) {
					said := said
					if name == "closed at once" {
						said = said[:min(size, 20_000)] // what is not in the receiver's buffer by then is lost
					}
					two := newAPI(t, "two")
					p := startCaddy(t, fmt.Sprintf("failover {\n\tname api\n\tcommit %s\n\tendpoint %s {\n\t\tname one\n\t}\n\tendpoint http://%s {\n\t\tname two\n\t}\n\ttransport http {\n\t\t%s\n\t}\n}",
						commit, test.url, two.address, test.transport))
					for i := range rounds {
						method := []string{"PUT", "POST"}[i%2]
						got := p.sending(method, upload, i/2%2 == 0)
						if got.status != http.StatusRequestEntityTooLarge || got.body != said {
							t.Errorf("%s %d: status %d, %d bytes", method, i, got.status, len(got.body))
						}
					}
					p.quiet()
					p.nothingKept()
					if one := p.one("one"); one.Failures+one.Cancelled != 0 || two.hits.Load() != 0 {
						t.Errorf("%d failures, %d cancelled; the next endpoint got %d requests", one.Failures, one.Cancelled, two.hits.Load())
					}
				})
			}
		}
	}
}

// TestAnEarlyAnswerClosesTheConnection checks that a client learns with an early response that it must use
// another connection, whether it sends the rest of its body, and that Caddy's server does not panic.
func TestAnEarlyAnswerClosesTheConnection(t *testing.T) {
	p := startCaddy(t, fmt.Sprintf("failover {\n\tname api\n\tendpoint http://%s {\n\t\tname one\n\t}\n}", hangingUp(t, http.StatusRequestEntityTooLarge, "too large")))
	for name, rest := range map[string]string{
		"the rest":                strings.Repeat("x", 45_000),
		"the rest, and a request": strings.Repeat("x", 45_000) + "GET /next HTTP/1.1\r\nHost: api.test\r\n\r\n",
		"nothing":                 "",
	} {
		for range 10 {
			conn := p.dial()
			fmt.Fprintf(conn, "POST /upload HTTP/1.1\r\nHost: api.test\r\nContent-Length: 50000\r\n\r\n%s", strings.Repeat("x", 5000))
			reader := bufio.NewReader(conn)
			resp, err := http.ReadResponse(reader, nil)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if _, err := io.Copy(io.Discard, resp.Body); err != nil {
				t.Errorf("%s: the response's body: %v", name, err)
			}
			if resp.StatusCode != http.StatusRequestEntityTooLarge || !resp.Close {
				t.Errorf("%s: status %d, closes: %v", name, resp.StatusCode, resp.Close)
			}
			_, _ = conn.Write([]byte(rest)) // it may be closed by now
			if rest == "" {
				conn.Close()
				continue
			}
			if next, err := http.ReadResponse(reader, nil); err == nil {
				t.Errorf("%s: a second response, %d", name, next.StatusCode)
			}
			conn.Close()
		}
	}
	p.quiet()
	for _, line := range p.lines("") {
		if message, _ := line["msg"].(string); strings.Contains(message, "panic") {
			t.Fatalf("%s", message)
		}
	}
	if one := p.one("one"); one.Attempts != 30 || one.Failures != 0 {
		t.Errorf("%d attempts, %d failures, want 30 and none", one.Attempts, one.Failures)
	}
}

// TestAnEarlyFailureMovesOn checks that the next endpoint gets the whole body, small or chunked, and that the
// failure counts once.
func TestAnEarlyFailureMovesOn(t *testing.T) {
	for name, failing := range map[string]string{
		"closed at once": hangingUp(t, http.StatusServiceUnavailable, "not now"),
		"kept open":      newServing(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }),
	} {
		t.Run(name, func(t *testing.T) {
			two := newAPI(t, "two")
			p := startCaddy(t, fmt.Sprintf("failover {\n\tname api\n\tbreaker off\n\tendpoint http://%s {\n\t\tname one\n\t}\n\tendpoint http://%s {\n\t\tname two\n\t}\n}", failing, two.address))
			upload := randomBody(700_000)
			for i := range 20 {
				p.sending("PUT", upload, i%2 == 0).want(t, fmt.Sprint("upload ", i), 200, "two"+digest(upload))
			}
			// once its score has gone down, most calls go to the other endpoint at once
			if got := p.one("one"); got.Failures < 5 || got.Failures != got.Attempts || got.lastOutcome() != "status" {
				t.Errorf("%d failures in %d attempts, the latest %s", got.Failures, got.Attempts, got.lastOutcome())
			}
		})
	}
}

// newServing starts a server and returns its address.
func newServing(t *testing.T, serve http.HandlerFunc) (address string) {
	a := newAPI(t, "")
	a.behave(serve)
	return a.address
}

// TestAnEarlyAnswerReachesAClientThatWaits checks that a client that waits gets it before it sends the rest of its body.
func TestAnEarlyAnswerReachesAClientThatWaits(t *testing.T) {
	p := startCaddy(t, fmt.Sprintf("failover {\n\tname api\n\tendpoint http://%s {\n\t\tname one\n\t}\n}", hangingUp(t, http.StatusUnauthorized, "who are you?")))
	for _, head := range []string{"Content-Length: 5000000", "Transfer-Encoding: chunked"} {
		conn, reader := p.raw("PUT / HTTP/1.1\nHost: api.test\n" + head)
		fmt.Fprint(conn, "3\r\nabc\r\n")
		if got := p.rest(reader); got.status != http.StatusUnauthorized {
			t.Errorf("%s: %+v", head, got)
		}
	}
	p.quiet()
	if got := p.one("one"); got.Successes != 2 {
		t.Errorf("%d of 2 answers are successes", got.Successes)
	}
}
