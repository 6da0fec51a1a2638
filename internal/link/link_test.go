package link

//lint:file-ignore SA1019 Caddy's transports use golang.org/x/net/http2.

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
)

// broken is a connection whose writes fail with err.
type broken struct {
	net.Conn
	err error
}

func (b broken) Write([]byte) (int, error) { return 0, b.err }

// TestABrokenWriteWaitsForTheAnswer checks that a broken write returns only after the end of the
// answer with HTTP/1, and at once otherwise.
func TestABrokenWriteWaitsForTheAnswer(t *testing.T) {
	for name, test := range map[string]struct {
		speaks uint32
		err    error
		waits  bool
	}{
		"HTTP/1, reset":       {http1, &net.OpError{Op: "write", Err: syscall.ECONNRESET}, true},
		"HTTP/1, broken pipe": {http1, &net.OpError{Op: "write", Err: syscall.EPIPE}, true},
		"HTTP/1, closed here": {http1, net.ErrClosed, false},
		"HTTP/2":              {http2Only, syscall.EPIPE, false},
		"no request yet":      {0, syscall.EPIPE, false},
		"upgraded":            {upgraded, syscall.EPIPE, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				here, there := net.Pipe()
				c := &Conn{Conn: broken{here, test.err}, links: new(links), over: make(chan struct{})}
				c.speaks.Store(test.speaks)
				wrote := make(chan error, 1)
				go func() {
					_, err := c.Write([]byte("request"))
					wrote <- err
				}()
				synctest.Wait()
				if got := len(wrote) == 0; got != test.waits {
					t.Fatalf("the write waits: %t", got)
				}
				go func() {
					_, _ = there.Write([]byte("answer"))
					there.Close()
				}()
				p := make([]byte, 10)
				if n, err := c.Read(p); string(p[:n]) != "answer" || err != nil {
					t.Fatalf("read %q, %v", p[:n], err)
				}
				synctest.Wait()
				if got := len(wrote) == 0; got != test.waits {
					t.Fatalf("the write waits during the answer: %t", got)
				}
				if _, err := c.Read(p); err == nil {
					t.Fatal("there is more to read")
				}
				if err := <-wrote; !errors.Is(err, test.err) {
					t.Errorf("the write ends with %v", err)
				}
				c.Close()
			})
		})
	}
}

func TestUpgraded(t *testing.T) {
	for before, want := range map[uint32]uint32{http1: upgraded, http2Only: http2Only, 0: 0} {
		c := new(Conn)
		c.speaks.Store(before)
		c.Upgraded()
		if got := c.speaks.Load(); got != want || c.IsHTTP2() != (want == http2Only) {
			t.Errorf("it spoke %d and speaks %d, want %d", before, got, want)
		}
	}
}

func TestOf(t *testing.T) {
	here, _ := net.Pipe()
	if Of(here) != nil {
		t.Error("a connection that is not watched has a Conn")
	}
	for _, h2c := range []bool{false, true} {
		c := &Conn{Conn: here, links: &links{h2c: h2c}, over: make(chan struct{})}
		if Of(c) != c || c.IsHTTP2() != h2c {
			t.Errorf("h2c %t: HTTP/2 %t", h2c, c.IsHTTP2())
		}
	}
}

// kept is a source of bytes.
type kept struct{ *strings.Reader }

func (k kept) WriteUpTo(w io.Writer, n int64) (int64, error) { return io.CopyN(w, k.Reader, n) }

func (kept) Read([]byte) (int, error) { return 0, errors.New("read instead of written") }

// taker is a connection that keeps what is written.
type taker struct {
	net.Conn
	got *strings.Builder
}

func (t taker) Write(p []byte) (int, error) { return t.got.Write(p) }

func TestReadFrom(t *testing.T) {
	for name, test := range map[string]struct {
		from io.Reader
		want string
	}{
		"a source":  {io.LimitReader(kept{strings.NewReader("body and more")}, 4), "body"},
		"no source": {io.LimitReader(strings.NewReader("body and more"), 4), "body"},
		"no length": {strings.NewReader("body"), "body"},
	} {
		var got strings.Builder
		c := &Conn{Conn: taker{got: &got}, links: new(links), over: make(chan struct{})}
		n, err := io.Copy(c, test.from)
		if n != int64(len(test.want)) || err != nil || got.String() != test.want {
			t.Errorf("%s: %d, %v, %q", name, n, err, got.String())
		}
		if c.Took() == 0 {
			t.Errorf("%s: Took counts no write", name)
		}
	}
}

func TestQuietFor(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	c := new(Conn)
	if got := c.QuietFor(now); got != 0 {
		t.Errorf("nobody has looked: %v", got)
	}
	c.Look(now)
	c.Look(now.Add(time.Second))
	if got := c.QuietFor(now.Add(3 * time.Second)); got != 3*time.Second {
		t.Errorf("nothing came: %v", got)
	}
	c.brought.Add(1)
	if got := c.QuietFor(now.Add(3 * time.Second)); got != 0 {
		t.Errorf("something came: %v", got)
	}
	c.Look(now.Add(4 * time.Second))
	if got := c.QuietFor(now.Add(5 * time.Second)); got != time.Second {
		t.Errorf("and nothing more: %v", got)
	}
}

// TestWatchClosesIdleConnections checks that a watched transport can close its idle HTTP/2 connections.
func TestWatchClosesIdleConnections(t *testing.T) {
	for _, limit := range []int64{0, 1 << 10} {
		closed, close := context.WithTimeout(t.Context(), time.Minute)
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
		server.EnableHTTP2 = true
		server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
			if state == http.StateClosed {
				close()
			}
		}
		server.StartTLS()
		defer server.Close()
		unused := server.Client().Transport.(*http.Transport).Clone()
		unused.TLSNextProto, unused.ForceAttemptHTTP2, unused.MaxResponseHeaderBytes = nil, false, limit
		if err := http2.ConfigureTransport(unused); err != nil {
			t.Fatal(err)
		}
		watched := Watch(unused, func(ctx context.Context) func(string) context.Context {
			return func(string) context.Context { return ctx }
		})
		resp, err := (&http.Client{Transport: watched}).Get(server.URL)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.ProtoMajor != 2 {
			t.Fatalf("the response is %s", resp.Proto)
		}
		watched.CloseIdleConnections()
		if <-closed.Done(); closed.Err() != context.Canceled {
			t.Errorf("limit %d: the connection stays open", limit)
		}
	}
}
