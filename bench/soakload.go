package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"time"
)

// soakCalls is what clients saw.
type soakCalls struct {
	Sent        int            `json:"sent"`
	OK          int            `json:"ok"`
	SocketsCut  int            `json:"websockets_cut_off"` // after the protocol was switched, as the rules say
	Explained   int            `json:"failed_as_the_rules_say"`
	Unexplained int            `json:"failed_without_reason"`
	Cancelled   int            `json:"cancelled_by_client"`
	Resent      int            `json:"resent"` // had met a connection that a reload closed
	Kinds       map[string]int `json:"kinds"`  // Sent, by what was sent and over which protocol
}

// soakTraffic is a mix of requests: small ones, large bodies, slow uploads,
// streams, WebSockets, and clients that go away; over HTTP/1.1 and HTTP/2.
type soakTraffic struct {
	soak    *soakRun
	rate    int
	address string // for WebSockets
	clients []soakClient
	wg      sync.WaitGroup

	mu          sync.Mutex
	calls       soakCalls
	unexplained []string
}

// A soakClient sends requests over one protocol.
type soakClient struct {
	*http.Client
	protocol string
	url      string
}

func newSoakTraffic(s *soakRun, rate int, at soakPorts) *soakTraffic {
	t := &soakTraffic{soak: s, rate: rate, address: s.proxy.address, calls: soakCalls{Kinds: make(map[string]int)}}
	for protocol, port := range map[string]int{h1: at.http, h2c: at.http, h2tls: at.https} {
		client := newClient(protocol, s.proxy.roots)
		transport := client.Transport.(*http.Transport)
		transport.DialContext = (&net.Dialer{Timeout: 5 * time.Second}).DialContext
		transport.MaxIdleConnsPerHost = 200
		transport.IdleConnTimeout = time.Second
		t.clients = append(t.clients, soakClient{client, protocol, fmt.Sprintf("%s127.0.0.1:%d", schemes[protocol], port)})
	}
	return t
}

// A fate is what became of a request.
type fate struct {
	kind      string
	failure   string // "": none
	cancelled bool
}

// The kinds of requests and how often each comes.
var soakKinds = []struct {
	part int
	send func(*soakTraffic, soakClient) fate
}{
	{46, func(t *soakTraffic, c soakClient) fate { return t.whole(c, "GET", nil, false) }},
	{24, func(t *soakTraffic, c soakClient) fate { return t.whole(c, "POST", filler[:2<<10], false) }},
	{9, func(t *soakTraffic, c soakClient) fate { return t.whole(c, "POST", filler[:200<<10], false) }},
	{5, func(t *soakTraffic, c soakClient) fate { return t.whole(c, "PUT", filler[:16<<10], true) }},
	{6, (*soakTraffic).stream},
	{5, (*soakTraffic).leaves},
	{5, (*soakTraffic).socket},
}

// run sends requests until quit, and waits for their answers.
func (t *soakTraffic) run(quit chan struct{}) {
	ticker := time.NewTicker(time.Second / time.Duration(t.rate))
	defer ticker.Stop()
	for {
		select {
		case <-quit:
			t.wg.Wait()
			return
		case <-ticker.C:
			n := rand.IntN(100)
			for _, kind := range soakKinds {
				if n -= kind.part; n < 0 {
					t.wg.Go(func() { t.count(t.sent(t.client(), kind.send)) })
					break
				}
			}
		}
	}
}

// client is any.
func (t *soakTraffic) client() soakClient { return t.clients[rand.IntN(len(t.clients))] }

// once sends a request of each kind over each protocol.
func (t *soakTraffic) once() {
	for _, kind := range soakKinds {
		for _, c := range t.clients {
			t.count(t.sent(c, kind.send))
		}
	}
}

// burst sends small requests, ten at a time.
func (t *soakTraffic) burst(n int) {
	for range 10 {
		t.wg.Go(func() {
			for range n / 10 {
				t.count(t.whole(t.client(), "GET", nil, false))
			}
		})
	}
	t.wg.Wait()
}

func (t *soakTraffic) done() { t.wg.Wait() }

func (t *soakTraffic) close() {
	for _, c := range t.clients {
		c.CloseIdleConnections()
	}
}

func (t *soakTraffic) counts() soakCalls {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.calls
}

// Failures that the rules allow: their endpoint broke off, as is known from it,
// after the answer had begun. The plugin counts that as a failure. Once the
// protocol has been switched it has no part in what follows, and a reload may end
// it too.
const (
	explained = "broken off after it had begun"
	socketCut = "broken off after the protocol was switched"
)

// broke tells whether an endpoint broke off an answer to a request sent at a time:
// it crashed since, or has said that it would.
func (t *soakTraffic) broke(resp *http.Response, sent time.Time) bool {
	if resp.Header.Get(willBreak) != "" {
		return true
	}
	for _, a := range t.soak.actors {
		if a.name == resp.Header.Get(endpointName) {
			return a.crashedSince(sent)
		}
	}
	return false
}

// noAnswer begins failures in which the connection ended without a byte.
const noAnswer = "no answer: "

// sent sends a request, and again where a reload has closed the connection before
// the request was read, as it does with all that look idle. If it had been read
// after all, the counts would not agree.
func (t *soakTraffic) sent(c soakClient, send func(*soakTraffic, soakClient) fate) fate {
	for tries := 1; ; tries++ {
		f := send(t, c)
		if tries == 5 || !strings.HasPrefix(f.failure, noAnswer) || !t.soak.reloading() {
			return f
		}
		t.mu.Lock()
		t.calls.Resent++
		t.mu.Unlock()
	}
}

func (t *soakTraffic) count(f fate) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.calls.Sent++
	t.calls.Kinds[f.kind]++
	switch {
	case f.cancelled:
		t.calls.Cancelled++
	case f.failure == "":
		t.calls.OK++
	case f.failure == explained:
		t.calls.Explained++
	case f.failure == socketCut:
		t.calls.SocketsCut++
	default:
		t.calls.Unexplained++
		if len(t.unexplained) < 20 {
			at := time.Since(t.soak.started).Seconds()
			t.unexplained = append(t.unexplained, fmt.Sprintf("%s at %.1f s: %s", f.kind, at, f.failure))
		}
	}
}

func (c soakClient) request(ctx context.Context, method, path string, body io.Reader) (*http.Request, error) {
	r, err := http.NewRequestWithContext(ctx, method, c.url+path, body)
	if err == nil {
		// a reload may close a connection in the moment in which a request is sent;
		// net/http sends such a request again only if it may
		r.Header.Set("Idempotency-Key", "soak")
	}
	return r, err
}

// whole sends a request and wants the whole answer. Slow uploads come in parts.
func (t *soakTraffic) whole(c soakClient, method string, body []byte, slowly bool) fate {
	f := fate{kind: fmt.Sprintf("%s of %d bytes over %s", method, len(body), c.protocol)}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var reader io.Reader
	if body != nil {
		reader = bytes.NewReader(body)
	}
	if slowly {
		reader = &trickle{bytes.NewReader(body)}
	}
	r, err := c.request(ctx, method, "/call", reader)
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
		return f.failed(fmt.Sprintf("status %d", resp.StatusCode))
	case err != nil:
		return f.failed(err.Error())
	case !bytes.Equal(text, whole(body)):
		return f.failed(fmt.Sprintf("a wrong body of %d bytes", len(text)))
	}
	return f
}

func (f fate) failed(failure string) fate {
	f.failure = failure
	return f
}

// trickle gives a body a bit at a time.
type trickle struct{ *bytes.Reader }

func (t *trickle) Read(p []byte) (int, error) {
	time.Sleep(20 * time.Millisecond)
	return t.Reader.Read(p[:min(len(p), 2<<10)])
}

// stream reads an answer that comes in parts. It may break off once it has begun.
func (t *soakTraffic) stream(c soakClient) fate {
	f := fate{kind: "event stream over " + c.protocol}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	r, err := c.request(ctx, http.MethodGet, "/stream", nil)
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
		return f.failed(fmt.Sprintf("status %d", resp.StatusCode))
	case err != nil && t.broke(resp, sent):
		return f.failed(explained)
	case err != nil:
		return f.failed(err.Error())
	case !bytes.HasSuffix(text, whole(nil)):
		return f.failed(fmt.Sprintf("a wrong body of %d bytes", len(text)))
	}
	return f
}

// leaves goes away while its endpoint takes its time.
func (t *soakTraffic) leaves(c soakClient) fate {
	f := fate{kind: "client that leaves over " + c.protocol}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	r, err := c.request(ctx, http.MethodGet, "/lasting", nil)
	if err != nil {
		return f.failed(err.Error())
	}
	// a request that was never sent would be counted here alone
	r = r.WithContext(httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		WroteRequest: func(httptrace.WroteRequestInfo) { time.AfterFunc(150*time.Millisecond, cancel) },
	}))
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
		return f.failed(fmt.Sprintf("status %d", resp.StatusCode))
	}
	return f
}

// socket talks over a WebSocket, which one of the two ends. It may break off once
// the protocol has been switched: because the endpoint does, or because a reload
// ends it, which the proxy says. There is none over HTTP/2.
func (t *soakTraffic) socket(soakClient) fate {
	f := fate{kind: "WebSocket over " + h1}
	sent := time.Now()
	s, resp, err := openSocket(t.address)
	switch {
	case resp == nil:
		return f.failed(noAnswer + err.Error())
	case err != nil:
		return f.failed(err.Error())
	case s == nil:
		return f.failed(fmt.Sprintf("status %d, not 101", resp.StatusCode))
	}
	defer s.Close()
	err = s.talk(5, 60*time.Millisecond, rand.IntN(2) == 0)
	switch {
	case err == nil:
		return f
	case errors.Is(err, errClosing) && t.soak.endsSockets() && t.soak.reloading():
		return f.failed(socketCut)
	case !errors.Is(err, errWrong) && !errors.Is(err, errClosing) && t.broke(resp, sent):
		return f.failed(socketCut)
	}
	return f.failed(err.Error())
}
