// Package load sends requests to proxies. It also has an endpoint of negligible cost.
package load

import (
	"bytes"
	"cmp"
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

// A Sample is the result of one request.
type Sample struct {
	At       time.Duration // due time, from the start
	Late     time.Duration // time from At to the start of the request: the machine's fault
	Took     time.Duration // time from At to the end of the response
	OK       bool
	Endpoint string // endpoint that responded, if OK
	What     string // what went wrong, if not OK
}

// An OpenLoop sends requests to actors at fixed times, like independent clients. It does
// not wait for responses, and latency counts from the due time (no coordinated omission).
// It alternates between a POST of 2 KiB and a GET.
type OpenLoop struct {
	address string
	rate    int // requests per second
	client  *http.Client
	body    []byte
	want    [2][]byte // expected bodies of a GET and a POST
	asks    [2][]byte // bodies that ask for models
	Clients
}

// Clients say how the clients of a loop differ from the usual ones. The zero value is no
// difference.
type Clients struct {
	Patience time.Duration // how long they wait for a response; 0: 10 s
	// Deadly is how many calls there are for one to actor.DeadlyPath, which every endpoint fails;
	// 0: there is none. Such a call counts as neither failed nor served.
	Deadly int
	// Models makes every request a POST of 2 KiB of JSON that asks for ModelOut or ModelWell, in turn.
	Models bool
}

// Models that clients ask for.
const (
	ModelOut  = "out" // the one that faults concern
	ModelWell = "well"
)

// asking returns a JSON body of 2 KiB that names a model.
func asking(model string) []byte {
	return fmt.Appendf(nil, `{"model":%q,"input":%q}`, model, payload.Of(2<<10))
}

// NewOpenLoop returns a loop for the proxy at an address. rate is in requests per second.
func NewOpenLoop(address string, rate int, c Clients) *OpenLoop {
	l := &OpenLoop{address: address, rate: rate, body: payload.Of(2 << 10), Clients: c}
	l.want = [2][]byte{payload.Answer(nil), payload.Answer(l.body)}
	l.asks = [2][]byte{asking(ModelWell), asking(ModelOut)}
	l.client = &http.Client{
		Timeout: cmp.Or(c.Patience, 10*time.Second),
		Transport: &http.Transport{
			DialContext:         (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
			MaxIdleConnsPerHost: 1000,
			DisableCompression:  true,
		},
	}
	return l
}

// WarmUp sends n POSTs one after the other and ignores the results.
func (l *OpenLoop) WarmUp(n int) {
	for range n {
		l.send(true)
	}
}

// Run sends requests from began on for the given time, and waits for the responses. The
// samples are in order of their due times. They end early if ctx ends.
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
			s.Late = time.Since(began) - at
			switch {
			case l.Deadly > 0 && i%l.Deadly == 0:
				l.do(http.MethodGet, actor.DeadlyPath, nil, nil)
			case l.Models:
				ask := l.asks[i%2]
				s.Endpoint, s.What = l.do(http.MethodPost, actor.CallPath, bytes.NewReader(ask), payload.Answer(ask))
			default:
				s.Endpoint, s.What = l.send(i%2 == 1)
			}
			s.OK = s.What == ""
			s.Took = time.Since(began) - at
		})
	}
	wg.Wait()
	l.client.CloseIdleConnections()
	return samples
}

// send sends a request. It returns the endpoint that responded, or what was wrong.
func (l *OpenLoop) send(post bool) (endpoint, what string) {
	if post {
		return l.do(http.MethodPost, actor.CallPath, bytes.NewReader(l.body), l.want[1])
	}
	return l.do(http.MethodGet, actor.CallPath, nil, l.want[0])
}

// do is send for a method, a path, a body, and the response that is wanted.
func (l *OpenLoop) do(method, path string, body io.Reader, want []byte) (endpoint, what string) {
	r, err := http.NewRequest(method, "http://"+l.address+path, body)
	if err != nil {
		return "", err.Error()
	}
	if l.Models {
		r.Header.Set("Content-Type", "application/json")
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
