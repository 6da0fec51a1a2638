package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// clientOf is a client of what listens on a socket, which waits for no answer forever.
func clientOf(socket string, keepAlive bool) *http.Client {
	return &http.Client{Timeout: 2 * patience, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
		MaxIdleConnsPerHost: 200,
		DisableKeepAlives:   !keepAlive,
	}}
}

// An answer is what a client got.
type answer struct {
	status int
	header http.Header
	body   string
}

// cutByReload reports whether a request got no answer because of a reload: with any handler, Caddy then
// ends some connections of a unix socket that have no request yet, or just got one.
func (p *proxy) cutByReload(err error) bool {
	return (errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET)) && time.Now().UnixNano()-p.loaded.Load() < int64(time.Second)
}

// do sends a request to the site.
func (p *proxy) do(method, path string, body io.Reader, header ...string) (*http.Response, error) {
	r, err := http.NewRequest(method, "http://api.test"+path, body)
	if err != nil {
		return nil, err
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := p.client.Do(r)
	for (body == nil || r.GetBody != nil) && p.cutByReload(err) {
		if body != nil {
			r.Body, _ = r.GetBody() // of strings and bytes, which always has one more
		}
		resp, err = p.client.Do(r)
	}
	return resp, err
}

// call sends a request and reads the whole answer.
func (p *proxy) call(method, path, body string, header ...string) answer {
	p.t.Helper()
	var reader io.Reader
	if body != "" {
		reader = strings.NewReader(body)
	}
	return p.callWith(method, path, reader, header...)
}

// callWith is call with a body of any kind.
func (p *proxy) callWith(method, path string, body io.Reader, header ...string) answer {
	p.t.Helper()
	resp, err := p.do(method, path, body, header...)
	if err != nil {
		p.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatalf("%s %s: reading the body: %v", method, path, err)
	}
	return answer{resp.StatusCode, resp.Header, string(text)}
}

// get sends a GET of the site's root.
func (p *proxy) get() answer {
	p.t.Helper()
	return p.call(http.MethodGet, "/", "")
}

// gets sends n GETs and ignores their results.
func (p *proxy) gets(n int) {
	p.t.Helper()
	for range n {
		p.get()
	}
}

// want fails the test unless the answer has this status and body.
func (got answer) want(t testing.TB, what string, status int, body string) {
	t.Helper()
	if got.status != status || got.body != body {
		t.Errorf("%s: got %+v, want %d %q", what, got, status, body)
	}
}

// leaving sends a request whose client leaves when leave is called. left then delivers the client's
// error; nil if it read the whole answer.
func (p *proxy) leaving(method, path string) (leave context.CancelFunc, left <-chan error) {
	ctx, leave := context.WithCancel(p.t.Context())
	done := make(chan error, 1)
	go func() {
		r, err := http.NewRequestWithContext(ctx, method, "http://api.test"+path, nil)
		if err == nil {
			var resp *http.Response
			if resp, err = p.client.Do(r); err == nil {
				_, err = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
		}
		done <- err
	}()
	return leave, done
}

// waiting sends a request and delivers its answer, or error, as text.
func (p *proxy) waiting(method, path string) <-chan string {
	answers := make(chan string, 1)
	go func() {
		resp, err := p.do(method, path, nil)
		if err != nil {
			answers <- err.Error()
			return
		}
		defer resp.Body.Close()
		text, _ := io.ReadAll(resp.Body)
		answers <- fmt.Sprint(resp.StatusCode, " ", string(text))
	}()
	return answers
}

// randomBody returns a body that does not compress, without repetitions.
func randomBody(n int) string {
	body := make([]byte, n)
	for i := range body {
		body[i] = byte(rand.Uint32())
	}
	return string(body)
}

// unknownLength makes the client send a body in chunks.
func unknownLength(body string) io.Reader { return io.MultiReader(strings.NewReader(body)) }

// bothWays are a body of known and of unknown length.
func bothWays(body string) []io.Reader {
	return []io.Reader{strings.NewReader(body), unknownLength(body)}
}

// dial opens a connection to the site that lives no longer than the test.
func (p *proxy) dial() net.Conn {
	p.t.Helper()
	conn, err := net.Dial("unix", p.file("site"))
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(4 * patience)) // a test may wait several times before it reads
	return conn
}

// raw sends the head of a request on a connection of its own.
func (p *proxy) raw(head string) (net.Conn, *bufio.Reader) {
	p.t.Helper()
	conn := p.dial()
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

// upgrade opens a connection that has switched to another protocol.
func (p *proxy) upgrade(protocol string) (net.Conn, *bufio.Reader) {
	p.t.Helper()
	conn, reader := p.raw("GET / HTTP/1.1\nHost: api.test\nConnection: Upgrade\nUpgrade: " + protocol +
		"\nSec-WebSocket-Version: 13\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==")
	resp, err := http.ReadResponse(reader, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		p.t.Fatalf("got %s", resp.Status)
	}
	return conn, reader
}

func wantLine(t testing.TB, r *bufio.Reader, want string) {
	t.Helper()
	if line, err := r.ReadString('\n'); line != want+"\n" {
		t.Fatalf("got %q (%v), want %q", line, err, want)
	}
}

// lines returns the log lines with a message; all lines if it is empty.
func (p *proxy) lines(message string) []map[string]any {
	p.t.Helper()
	text, err := os.ReadFile(p.file("log"))
	if err != nil {
		p.t.Fatal(err)
	}
	var lines []map[string]any
	for line := range strings.Lines(string(text)) {
		if !strings.HasSuffix(line, "\n") {
			break // is being written
		}
		fields := make(map[string]any)
		if err := json.Unmarshal([]byte(line), &fields); err != nil {
			p.t.Fatalf("log line %q: %v", line, err)
		}
		if message == "" || fields["msg"] == message {
			lines = append(lines, fields)
		}
	}
	return lines
}
