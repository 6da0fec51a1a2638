package soak

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptrace"
	"time"

	"github.com/apifailover/caddy-failover/bench/internal/actor"
	"github.com/apifailover/caddy-failover/bench/internal/client"
	"github.com/apifailover/caddy-failover/bench/internal/payload"
	"github.com/apifailover/caddy-failover/bench/internal/websocket"
)

// A sender is a client of one protocol.
type sender struct {
	*http.Client
	protocol client.Protocol
	url      string
}

// patience is how long a client waits for the end of a response.
const patience = 30 * time.Second

func (c call) request(ctx context.Context, method, path string, body io.Reader) (*http.Request, error) {
	r, err := http.NewRequestWithContext(ctx, method, c.url+c.path(path), body)
	if err == nil {
		r.Header = c.header()
		// A reload may close a connection just when a request is sent. net/http retries
		// such a request only if this header allows it.
		r.Header.Set("Idempotency-Key", "soak")
	}
	return r, err
}

// whole sends a request and expects the whole response. A slow upload arrives in parts.
func (m *traffic) whole(c call, method string, body []byte, slowly bool) fate {
	f := fate{kind: fmt.Sprintf("%s of %d bytes%s%s", method, len(body), c.to(), over(c.protocol))}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var reader io.Reader
	switch {
	case slowly:
		reader = &trickle{bytes.NewReader(body)}
	case body != nil:
		reader = bytes.NewReader(body)
	}
	r, err := c.request(ctx, method, actor.CallPath, reader)
	if err != nil {
		return f.failed(err.Error())
	}
	if slowly {
		r.ContentLength = int64(len(body))
		r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(&trickle{bytes.NewReader(body)}), nil }
	}
	resp, err := c.Do(r)
	if err != nil {
		return f.failed(noAnswer + err.Error())
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	switch {
	case resp.StatusCode != http.StatusOK:
		return f.failed(status(resp.StatusCode))
	case err != nil:
		return f.failed(err.Error())
	case !bytes.Equal(text, payload.Answer(body)):
		return f.failed(fmt.Sprintf("a wrong body of %d bytes", len(text)))
	}
	return f
}

// trickle returns 2 KiB of a body every 20 ms.
type trickle struct{ *bytes.Reader }

func (t *trickle) Read(p []byte) (int, error) {
	time.Sleep(20 * time.Millisecond)
	return t.Reader.Read(p[:min(len(p), 2<<10)])
}

// stream reads a response that arrives in parts. It may break off after it has begun.
func (m *traffic) stream(c call) fate {
	f := fate{kind: "event stream" + over(c.protocol)}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r, err := c.request(ctx, http.MethodGet, actor.StreamPath, nil)
	if err != nil {
		return f.failed(err.Error())
	}
	sent := time.Now()
	resp, err := c.Do(r)
	if err != nil {
		return f.failed(noAnswer + err.Error())
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	switch {
	case resp.StatusCode != http.StatusOK:
		return f.failed(status(resp.StatusCode))
	case err != nil && m.broke(resp, sent):
		return f.failed(explained)
	case err != nil:
		return f.failed(err.Error())
	case !bytes.HasSuffix(text, payload.Answer(nil)):
		return f.failed(fmt.Sprintf("a wrong body of %d bytes", len(text)))
	}
	return f
}

// leave cancels the request 150 ms after it was written, while the endpoint still works on
// it. Only this client might count a call that it cancels sooner.
func (m *traffic) leave(c call) fate {
	f := fate{kind: "client that leaves" + c.to() + over(c.protocol)}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		WroteRequest: func(httptrace.WroteRequestInfo) { time.AfterFunc(150*time.Millisecond, cancel) },
	})
	r, err := c.request(ctx, http.MethodGet, actor.LastingPath, nil)
	if err != nil {
		return f.failed(err.Error())
	}
	resp, err := c.Do(r)
	if err == nil {
		_, err = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
	switch {
	case errors.Is(err, context.Canceled):
		f.cancelled = true
	case err != nil && resp == nil:
		return f.failed(noAnswer + err.Error())
	case err != nil:
		return f.failed(err.Error())
	case resp.StatusCode != http.StatusOK:
		return f.failed(status(resp.StatusCode))
	}
	return f
}

// socket talks over a WebSocket, which one of the two sides ends. It may break off after
// the protocol has been switched: because the endpoint breaks off, or because a reload ends
// it and the proxy says so. There are no WebSockets over HTTP/2.
func (m *traffic) socket(c call) fate {
	f := fate{kind: "WebSocket" + over(client.H1)}
	sent := time.Now()
	conn, resp, err := websocket.Open(c.address(), actor.SocketPath, c.header())
	switch {
	case resp == nil:
		return f.failed(noAnswer + err.Error())
	case err != nil:
		return f.failed(err.Error())
	case conn == nil:
		return f.failed(status(resp.StatusCode))
	}
	defer conn.Close()
	err = conn.Talk(5, 60*time.Millisecond, rand.IntN(2) == 0)
	switch {
	case err == nil:
		return f
	case errors.Is(err, websocket.ErrClosing) && c.trial.endsSockets() && c.reloads.underWay():
		return f.failed(socketCut)
	case !errors.Is(err, websocket.ErrWrong) && !errors.Is(err, websocket.ErrClosing) && m.broke(resp, sent):
		return f.failed(socketCut)
	}
	return f.failed(err.Error())
}
