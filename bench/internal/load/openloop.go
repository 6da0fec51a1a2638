// Package load sends requests to proxies and, where an endpoint must cost nothing,
// answers them.
package load

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/apifailover/caddy-failover/bench/internal/actor"
	"github.com/apifailover/caddy-failover/bench/internal/payload"
)

// A Sample is what happened to one request.
type Sample struct {
	At       time.Duration // when it was due, from the start
	Took     time.Duration // from then to the end of the answer
	OK       bool
	Endpoint string // that answered, if OK
	What     string // went wrong, if not OK
}

// An OpenLoop sends requests to actors at fixed times, as independent clients do:
// it waits for no answer, and a request that is sent late has a longer latency
// (no coordinated omission). Every second request is a POST of 2 KiB, the others
// are GETs.
type OpenLoop struct {
	address string
	rate    int // requests a second
	client  *http.Client
	body    []byte
	want    [2][]byte // what a GET and a POST must get
}

// patience is how long a client waits for an answer.
const patience = 10 * time.Second

// NewOpenLoop returns a loop for the proxy at an address, with a rate in requests
// a second.
func NewOpenLoop(address string, rate int) *OpenLoop {
	l := &OpenLoop{address: address, rate: rate, body: payload.Of(2 << 10)}
	l.want = [2][]byte{payload.Answer(nil), payload.Answer(l.body)}
	l.client = &http.Client{
		Timeout: patience,
		Transport: &http.Transport{
			DialContext:         (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
			MaxIdleConnsPerHost: 1000,
			DisableCompression:  true,
		},
	}
	return l
}

// WarmUp sends n POSTs, one after the other, whatever comes back.
func (l *OpenLoop) WarmUp(n int) {
	for range n {
		l.send(true)
	}
}

// Run sends requests from a time on, for as long as it is to last, and waits for
// their answers. The samples are in the order in which the requests were due;
// they end early if ctx does.
func (l *OpenLoop) Run(ctx context.Context, began time.Time, lasting time.Duration) []Sample {
	n := int(lasting.Seconds() * float64(l.rate))
	samples := make([]Sample, n)
	var wg sync.WaitGroup
	timer := time.NewTimer(0)
	defer timer.Stop()
	for i := range n {
		at := time.Duration(i) * time.Second / time.Duration(l.rate)
		if wait := time.Until(began.Add(at)); wait > 0 {
			timer.Reset(wait)
			select {
			case <-timer.C:
			case <-ctx.Done():
			}
		}
		if ctx.Err() != nil {
			samples = samples[:i]
			break
		}
		s := &samples[i]
		s.At = at
		wg.Go(func() {
			s.Endpoint, s.What = l.send(i%2 == 1)
			s.OK = s.What == ""
			s.Took = time.Since(began) - at
		})
	}
	wg.Wait()
	l.client.CloseIdleConnections()
	return samples
}

// send sends a request and returns the endpoint that answered, or what was wrong
// with the answer.
func (l *OpenLoop) send(post bool) (endpoint, what string) {
	method, body, want := http.MethodGet, io.Reader(nil), l.want[0]
	if post {
		method, body, want = http.MethodPost, bytes.NewReader(l.body), l.want[1]
	}
	r, err := http.NewRequest(method, "http://"+l.address+actor.CallPath, body)
	if err != nil {
		return "", err.Error()
	}
	resp, err := l.client.Do(r)
	if err != nil {
		return "", "no answer"
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	switch {
	case resp.StatusCode != http.StatusOK:
		return "", fmt.Sprint(resp.StatusCode)
	case err != nil || !bytes.Equal(text, want):
		return "", "cut or wrong body"
	}
	return resp.Header.Get(actor.NameHeader), ""
}
