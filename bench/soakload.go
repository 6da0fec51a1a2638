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
	"strings"
	"sync"
	"time"
)

// soakCalls is what clients saw.
type soakCalls struct {
	Sent        int `json:"sent"`
	OK          int `json:"ok"`
	Explained   int `json:"failed_as_the_rules_say"`
	Unexplained int `json:"failed_without_reason"`
	Cancelled   int `json:"cancelled_by_client"`
	Resent      int `json:"resent"` // had met a connection that a reload closed
}

// soakTraffic is a mix of requests: small ones, large bodies, slow uploads,
// streams, and clients that go away.
type soakTraffic struct {
	soak   *soakRun
	rate   int
	client *http.Client
	wg     sync.WaitGroup

	mu          sync.Mutex
	calls       soakCalls
	unexplained []string
}

func newSoakTraffic(s *soakRun, rate int) *soakTraffic {
	return &soakTraffic{soak: s, rate: rate, client: &http.Client{Transport: &http.Transport{
		DialContext:         (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
		MaxIdleConnsPerHost: 200,
		IdleConnTimeout:     time.Second,
		DisableCompression:  true,
	}}}
}

// The kinds of requests and how often each comes.
var soakKinds = []struct {
	part int
	send func(t *soakTraffic) (kind, failure string, cancelled bool)
}{
	{50, func(t *soakTraffic) (string, string, bool) { return t.whole("GET", nil, false) }},
	{25, func(t *soakTraffic) (string, string, bool) { return t.whole("POST", filler[:2<<10], false) }},
	{10, func(t *soakTraffic) (string, string, bool) { return t.whole("POST", filler[:200<<10], false) }},
	{5, func(t *soakTraffic) (string, string, bool) { return t.whole("PUT", filler[:16<<10], true) }},
	{5, (*soakTraffic).stream},
	{5, (*soakTraffic).leaves},
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
					t.wg.Go(func() { t.count(t.sent(kind.send)) })
					break
				}
			}
		}
	}
}

// once sends a request of each kind.
func (t *soakTraffic) once() {
	for _, kind := range soakKinds {
		t.count(t.sent(kind.send))
	}
}

// burst sends small requests, ten at a time.
func (t *soakTraffic) burst(n int) {
	for range 10 {
		t.wg.Go(func() {
			for range n / 10 {
				t.count(t.whole("GET", nil, false))
			}
		})
	}
	t.wg.Wait()
}

func (t *soakTraffic) done()  { t.wg.Wait() }
func (t *soakTraffic) close() { t.client.CloseIdleConnections() }

func (t *soakTraffic) counts() soakCalls {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.calls
}

// explained is a failure that the rules allow: an answer that had begun when its
// endpoint broke off.
const explained = "broken off after it had begun"

// noAnswer begins failures in which the connection ended without a byte.
const noAnswer = "no answer: "

// sent sends a request, and once again where a reload has closed the connection
// before the request was read, as it does with connections that look idle. If it
// had been read after all, the counts would not agree.
func (t *soakTraffic) sent(send func(*soakTraffic) (kind, failure string, cancelled bool)) (kind, failure string, cancelled bool) {
	kind, failure, cancelled = send(t)
	if strings.HasPrefix(failure, noAnswer) && t.soak.reloading() {
		t.mu.Lock()
		t.calls.Resent++
		t.mu.Unlock()
		return send(t)
	}
	return kind, failure, cancelled
}

func (t *soakTraffic) count(kind, failure string, cancelled bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.calls.Sent++
	switch {
	case cancelled:
		t.calls.Cancelled++
	case failure == "":
		t.calls.OK++
	case failure == explained:
		t.calls.Explained++
	default:
		t.calls.Unexplained++
		if len(t.unexplained) < 20 {
			at := time.Since(t.soak.started).Seconds()
			t.unexplained = append(t.unexplained, fmt.Sprintf("%s at %.1f s: %s", kind, at, failure))
		}
	}
}

func (t *soakTraffic) request(ctx context.Context, method, path string, body io.Reader) (*http.Request, error) {
	r, err := http.NewRequestWithContext(ctx, method, "http://"+t.soak.proxy.address+path, body)
	if err == nil {
		// a reload may close a connection in the moment in which a request is sent;
		// net/http sends such a request again only if it may
		r.Header.Set("Idempotency-Key", "soak")
	}
	return r, err
}

// whole sends a request and wants the whole answer. Slow uploads come in parts.
func (t *soakTraffic) whole(method string, body []byte, slowly bool) (kind, failure string, cancelled bool) {
	kind = fmt.Sprintf("%s of %d bytes", method, len(body))
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var reader io.Reader
	if body != nil {
		reader = bytes.NewReader(body)
	}
	if slowly {
		reader = &trickle{bytes.NewReader(body)}
	}
	r, err := t.request(ctx, method, "/call", reader)
	if err != nil {
		return kind, err.Error(), false
	}
	if slowly {
		r.ContentLength = int64(len(body))
		r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(&trickle{bytes.NewReader(body)}), nil }
	}
	resp, err := t.client.Do(r)
	if err != nil {
		return kind, noAnswer + err.Error(), false
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	switch {
	case resp.StatusCode != http.StatusOK:
		return kind, fmt.Sprintf("status %d", resp.StatusCode), false
	case err != nil:
		return kind, err.Error(), false
	case !bytes.Equal(text, whole(body)):
		return kind, fmt.Sprintf("a wrong body of %d bytes", len(text)), false
	}
	return kind, "", false
}

// trickle gives a body a bit at a time.
type trickle struct{ *bytes.Reader }

func (t *trickle) Read(p []byte) (int, error) {
	time.Sleep(20 * time.Millisecond)
	return t.Reader.Read(p[:min(len(p), 2<<10)])
}

// stream reads an answer that comes in parts. It may break off once it has begun.
func (t *soakTraffic) stream() (kind, failure string, cancelled bool) {
	kind = "stream"
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	r, err := t.request(ctx, http.MethodGet, "/stream", nil)
	if err != nil {
		return kind, err.Error(), false
	}
	resp, err := t.client.Do(r)
	if err != nil {
		return kind, noAnswer + err.Error(), false
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	switch {
	case resp.StatusCode != http.StatusOK:
		return kind, fmt.Sprintf("status %d", resp.StatusCode), false
	case err != nil && resp.Header.Get(endpointName) != "c":
		return kind, explained, false
	case err != nil:
		return kind, err.Error(), false
	case !bytes.HasSuffix(text, whole(nil)):
		return kind, fmt.Sprintf("a wrong body of %d bytes", len(text)), false
	}
	return kind, "", false
}

// leaves goes away while its endpoint takes its time.
func (t *soakTraffic) leaves() (kind, failure string, cancelled bool) {
	kind = "client that leaves"
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	r, err := t.request(ctx, http.MethodGet, "/lasting", nil)
	if err != nil {
		return kind, err.Error(), false
	}
	timer := time.AfterFunc(150*time.Millisecond, cancel)
	defer timer.Stop()
	resp, err := t.client.Do(r)
	if err == nil {
		_, err = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
	switch {
	case errors.Is(err, context.Canceled):
		return kind, "", true
	case err != nil && resp == nil:
		return kind, noAnswer + err.Error(), false
	case err != nil:
		return kind, err.Error(), false
	case resp.StatusCode != http.StatusOK:
		return kind, fmt.Sprintf("status %d", resp.StatusCode), false
	}
	return kind, "", false
}
