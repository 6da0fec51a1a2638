package replay

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/apifailover/caddy-failover/internal/memory"
)

// trailed is a body that sets its request's trailers at its end, as Caddy's bodies do.
type trailed struct {
	io.Reader
	trailer http.Header
}

func (b trailed) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if err == io.EOF {
		clear(b.trailer)
		b.trailer["X-Sum"] = []string{"42"}
	}
	return n, err
}

func (trailed) Close() error { return nil }

// TestTrailersOfTwoAttempts checks that an attempt gets the trailers when it reads the end of the
// body itself, not when an earlier attempt does. This also holds if net/http repeats its request.
func TestTrailersOfTwoAttempts(t *testing.T) {
	memory.Bodies.SetLimit(256 << 20)
	r, err := http.NewRequest("PUT", "http://api.test/", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Trailer = http.Header{"X-Sum": nil}
	r.Body, r.ContentLength = trailed{strings.NewReader("a body"), r.Trailer}, -1
	rec := NewRecording(r, Options{Limit: 100})
	attempt := func() *http.Request {
		out := r.WithContext(t.Context())
		rec.Send(out, time.Now())
		return out
	}
	first := attempt()
	read := make(chan error)
	go func() {
		_, err := io.Copy(io.Discard, first.Body)
		read <- err
	}()
	second := attempt()
	for field := range second.Trailer {
		if field != "X-Sum" {
			t.Errorf("the trailer %s is announced", field)
		}
	}
	if err := <-read; err != nil {
		t.Fatal(err)
	}
	if len(second.Trailer["X-Sum"]) > 0 {
		t.Error("the second has its trailers before the end of its body")
	}
	again, err := second.GetBody()
	if err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(again); err != nil || string(text) != "a body" {
		t.Errorf("got %q, %v", text, err)
	}
	for _, out := range []*http.Request{first, second} {
		if got := out.Trailer.Get("X-Sum"); got != "42" || len(out.Trailer) != 1 {
			t.Errorf("got the trailers %v", out.Trailer)
		}
	}
}
