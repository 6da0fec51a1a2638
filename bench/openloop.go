package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// A sample is what became of one request.
type sample struct {
	At       time.Duration // when it was meant to be sent, from the start
	Took     time.Duration // from then to the end of the answer
	OK       bool
	Endpoint string // that answered, if it was OK
	What     string // went wrong
}

// An openLoop sends requests at fixed times, whatever becomes of others, as
// independent clients do: a late answer delays nothing, and a late start counts
// as latency (no coordinated omission).
type openLoop struct {
	address string
	rate    int // a second
	client  *http.Client
	// body of every second request, which is a POST; others are GETs
	body []byte
	want [2][]byte
}

// clientPatience is how long a client waits for an answer.
const clientPatience = 10 * time.Second

func newOpenLoop(address string, rate int) *openLoop {
	l := &openLoop{address: address, rate: rate, body: filler[:2<<10]}
	l.want = [2][]byte{whole(nil), whole(l.body)}
	l.client = &http.Client{
		Timeout: clientPatience,
		Transport: &http.Transport{
			DialContext:         (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
			MaxIdleConnsPerHost: 1000,
			DisableCompression:  true,
		},
	}
	return l
}

// run sends requests for a time and returns what became of them, in the order
// in which they were to be sent.
func (l *openLoop) run(ctx context.Context, began time.Time, lasting time.Duration) []sample {
	n := int(lasting.Seconds() * float64(l.rate))
	samples := make([]sample, n)
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
			s.Endpoint, s.What = l.one(i%2 == 1)
			s.OK = s.What == ""
			s.Took = time.Since(began) - at
		})
	}
	wg.Wait()
	l.client.CloseIdleConnections()
	return samples
}

// one sends a request; what says what was wrong with the answer, if anything.
func (l *openLoop) one(post bool) (endpoint, what string) {
	method, body, want := http.MethodGet, io.Reader(nil), l.want[0]
	if post {
		method, body, want = http.MethodPost, bytes.NewReader(l.body), l.want[1]
	}
	r, err := http.NewRequest(method, "http://"+l.address+"/call", body)
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
	return resp.Header.Get(endpointName), ""
}
