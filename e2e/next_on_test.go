package e2e

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// TestNextOn checks which response the client gets if responses match `next_on`. The endpoint must not be blamed.
func TestNextOn(t *testing.T) {
	long := strings.Repeat("x", 100<<10)
	reject := func(status int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Request-Id", "abc")
			w.WriteHeader(status)
			fmt.Fprint(w, body)
		}
	}
	zipped := func(status int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if got := r.Header.Get("Accept-Encoding"); got != "gzip" {
				t.Errorf("Accept-Encoding is %q", got)
			}
			var out bytes.Buffer
			zip := gzip.NewWriter(&out)
			_, _ = io.WriteString(zip, body)
			zip.Close()
			w.Header().Set("Content-Encoding", "gzip")
			w.WriteHeader(status)
			_, _ = out.WriteTo(w)
		}
	}
	fine, down := named("fine"), status(http.StatusServiceUnavailable)
	const rule = "next_on 400 context_length_exceeded"
	for _, test := range []struct {
		name     string
		options  string
		one, two http.HandlerFunc
		status   int
		body     string
		asked    int64  // requests to the second endpoint
		header   string // X-Request-Id at the client
	}{
		{"a match moves on", rule, reject(400, "error: context_length_exceeded"), fine, 200, "fine", 1, ""},
		{"another body is the client's", rule, reject(400, "content_filter"), fine, 400, "content_filter", 0, "abc"},
		{"another status is the client's", rule, reject(422, "context_length_exceeded"), fine, 422, "context_length_exceeded", 0, "abc"},
		{"all match: the first goes out", rule, reject(400, "one: context_length_exceeded"), reject(400, "two: context_length_exceeded"), 400, "one: context_length_exceeded", 1, "abc"},
		{"the others fail: the first goes out", rule, reject(400, "one: context_length_exceeded"), down, 400, "one: context_length_exceeded", 1, "abc"},
		{"the others hang up: the first goes out", rule, reject(400, "one: context_length_exceeded"), cut, 400, "one: context_length_exceeded", 1, "abc"},
		{"a long response goes out whole", "next_on 404", reject(404, long), reject(404, "two"), 404, long, 1, "abc"},
		{"a long response is dropped", "next_on 404", reject(404, long), fine, 200, "fine", 1, ""},
		{"only 64 KiB are examined", rule, reject(400, long+"context_length_exceeded"), fine, 400, long + "context_length_exceeded", 0, "abc"},
		{"any body", "next_on 4xx", reject(418, ""), fine, 200, "fine", 1, ""},
		{"several rules", "next_on 404 nowhere\nnext_on 400 a\nnext_on 400 b", reject(400, "b"), fine, 200, "fine", 1, ""},
		{"a success as well", "next_on 200 \"no capacity\"", reject(200, "no capacity"), fine, 200, "fine", 1, ""},
		{"a success that does not match", "commit complete\nnext_on 200 \"no capacity\"", reject(200, "all is well"), fine, 200, "all is well", 0, "abc"},
		{"compressed", rule, zipped(400, "context_length_exceeded"), fine, 200, "fine", 1, ""},
		{"no attempt is left", rule + "\nretry {\nattempts 1\n}", reject(400, "context_length_exceeded"), fine, 400, "context_length_exceeded", 0, "abc"},
	} {
		t.Run(test.name, func(t *testing.T) {
			one, two := newAPI(t, "one"), newAPI(t, "two")
			one.behave(test.one)
			two.behave(test.two)
			p := startCaddy(t, site(test.options, one, two))
			accept := []string{}
			if test.name == "compressed" {
				accept = []string{"Accept-Encoding", "br, gzip, zstd"}
			}
			// a rejected request may be sent again whatever its method, so POST
			got := p.call(http.MethodPost, "/", "body", accept...)
			if got.status != test.status || got.body != test.body {
				t.Errorf("got %d %.60q", got.status, got.body)
			}
			if id := got.header.Get("X-Request-Id"); id != test.header {
				t.Errorf("X-Request-Id is %q", id)
			}
			if one.hits.Load() != 1 || two.hits.Load() != test.asked {
				t.Errorf("one got %d requests, two got %d", one.hits.Load(), two.hits.Load())
			}
			p.wantTotals("one", totals{Attempts: 1, Successes: 1})
			p.quiet()
		})
	}
}

// TestNextOnPlaceholders checks that the placeholder names the endpoint whose response the client gets.
func TestNextOnPlaceholders(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	one.answer(http.StatusNotFound)
	two.answer(http.StatusNotFound)
	p := startCaddy(t, "header >X-Endpoint {http.failover.endpoint}\n"+site("next_on 404", one, two))
	if got := p.get().header.Get("X-Endpoint"); got != "one" {
		t.Errorf("X-Endpoint is %q", got)
	}
}
