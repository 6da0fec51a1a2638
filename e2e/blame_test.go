package e2e

import (
	"net/http"
	"testing"
	"time"
)

// badPath is the path at which every endpoint of these tests misbehaves in the same way.
const badPath = "/bad"

// TestOneClientHurtsNoOther sends requests that fail at every endpoint, beside those of other clients.
// They must not change the other clients' answers, open a breaker or cause a long hold, and a primary
// that really fails must lose its traffic and get it back as usual.
func TestOneClientHurtsNoOther(t *testing.T) {
	for _, hostile := range []struct {
		name    string
		bad     http.HandlerFunc
		rate    int
		method  string
		options string
		own     bool // credentials
	}{
		{name: "500, now and then", bad: status(500), rate: 10, method: http.MethodGet},
		{name: "500", bad: status(500), rate: 100, method: http.MethodGet},
		{name: "500, not sent again", bad: status(500), rate: 60, method: http.MethodPost},
		{name: "500, slowly", bad: delayed(20*time.Millisecond, status(500)), rate: 100, method: http.MethodGet},
		{name: "cut", bad: cut, rate: 100, method: http.MethodGet},
		{name: "403", bad: status(403), rate: 50, method: http.MethodGet, own: true},
		{name: "429", bad: limited, rate: 50, method: http.MethodPost, own: true},
		{name: "429, rarely", bad: limited, rate: 1, method: http.MethodPost, own: true},
		{name: "no answer", bad: silent, rate: 20, method: http.MethodGet, options: "timeout 1s"},
	} {
		apart(t, hostile.name, func(t *testing.T) {
			apis := newAPIs(t, "one", "two", "three")
			for _, a := range apis {
				usual := delayed(30*time.Millisecond, a.fine) // a busy machine is not slow beside that
				a.behave(func(w http.ResponseWriter, r *http.Request) {
					if r.URL.Path == badPath {
						hostile.bad(w, r)
						return
					}
					usual(w, r)
				})
			}
			options := hostile.options + "\nbreaker {\nopen_for 500ms\nopen_max 1s\nstep 100ms\n}"
			config := site(options, apis...)
			if hostile.own {
				config = keyed(options, apis...)
			}
			p := startCaddy(t, config)
			before := p.newestEvent()
			good := p.startLoad(200/loadPart, http.MethodGet, "")
			good.await(100)
			bad := p.startLoadAt(badPath, max(1, hostile.rate/loadPart), hostile.method, "")
			good.await(500)
			for _, e := range p.events(before) {
				// of 20 requests that are not sent again half may be bad ones by chance
				if e.Kind == "breaker_opened" && hostile.method != http.MethodPost || e.Kind == "breaker_opened" && hostile.own || e.Kind == "all_down" {
					t.Errorf("%s of %s: %s", e.Kind, e.Endpoint, e.Reason)
				}
			}
			good.wantFailures(0.005)
			fine := apis[0].handler.Load()
			apis[0].answer(http.StatusServiceUnavailable)
			out := p.becomes("one", "open")
			good.await(100)
			apis[0].behave(*fine)
			back := eventually(t, "the primary has most of its traffic again", func() bool {
				e := p.one("one") // with failures that count, it has less of its tier
				return e.State == "closed" && (e.Traffic > 0.9 || hostile.method == http.MethodPost && !hostile.own)
			})
			bad.stop()
			good.stop()
			t.Logf("a primary that answers 503 is left after %v, and has its traffic again %v after its return; p99 of good calls %v",
				out, back, good.quantile(0.99))
			good.wantFailures(0.005)
		})
	}
}

// limited answers like a provider that refuses a request which is too large for a quota.
func limited(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Retry-After", "60")
	w.WriteHeader(http.StatusTooManyRequests)
}

// TestRequestsThatAreNotSent sends requests that net/http, or every endpoint's HTTP/2 layer, refuses.
// Their clients must get 400, and no endpoint may be blamed.
func TestRequestsThatAreNotSent(t *testing.T) {
	const chunked = "PUT / HTTP/1.1\nHost: api.test\nTransfer-Encoding: chunked\n"
	for _, test := range []struct {
		name    string
		head    string
		body    string
		tls     bool
		options string
	}{
		{name: "a trailer with a space", head: chunked + "Trailer: foo bar", body: "5\r\nhello\r\n0\r\n\r\n"},
		{name: "an upgrade to h2c beside HTTP/2 endpoints", tls: true,
			head: "GET / HTTP/1.1\nHost: api.test\nConnection: Upgrade, HTTP2-Settings\nUpgrade: h2c\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA"},
		{name: "a line break in a header from a placeholder", options: "header_up X-Q {query.q}",
			head: "GET /?q=a%0d%0ab HTTP/1.1\nHost: api.test"},
		{name: "a trailer that HTTP/2 forbids", tls: true,
			head: chunked + "Trailer: Host", body: "5\r\nhello\r\n0\r\nHost: a\r\n\r\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			apis := newAPIs(t, "one", "two")
			options := test.options
			if test.tls {
				apis = []*api{newTLSAPI(t, "one"), newTLSAPI(t, "two")}
				options += "\ntransport http {\ntls_insecure_skip_verify\n}"
			}
			p := startCaddy(t, site(options, apis...))
			p.gets(1)
			for i := range 12 {
				conn, r := p.raw(test.head)
				if _, err := conn.Write([]byte(test.body)); err != nil {
					t.Fatal(err)
				}
				if got := p.rest(r); got.status != http.StatusBadRequest {
					t.Fatalf("request %d: answered %+v", i, got)
				}
			}
			for _, name := range []string{"one", "two"} {
				p.wantState(name, "closed")
			}
			p.gets(1)
		})
	}
}
