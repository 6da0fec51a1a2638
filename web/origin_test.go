package web

import (
	"crypto/tls"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// actions records the requests that a page lets through.
type actions struct{ bodies []string }

func (a *actions) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	a.bodies = append(a.bodies, string(body))
}

// TestActionsComeFromThisPageOnly checks that the page lets only its own requests through, not
// those that other sites and other programs can send.
func TestActionsComeFromThisPageOnly(t *testing.T) {
	const host = "ops.example"
	ours := map[string]string{"Origin": "https://ops.example", "Sec-Fetch-Site": "same-origin", "Content-Type": "application/json", "Failover-Action": "1"}
	for _, c := range []struct {
		name   string
		method string
		host   string
		tls    bool
		with   map[string]string // on top of ours; "" removes a field
		want   int
	}{
		{"the page", "POST", host, true, nil, 200},
		{"the page, in a browser without Sec-Fetch-Site", "POST", host, true, map[string]string{"Sec-Fetch-Site": ""}, 200},
		{"the page, with a charset", "POST", host, true, map[string]string{"Content-Type": "application/json; charset=utf-8"}, 200},
		{"the page over plain HTTP", "POST", host, false, map[string]string{"Origin": "http://ops.example"}, 200},
		{"the page behind a proxy that ends TLS", "POST", host, false, nil, 200},
		{"the page at another port", "POST", "ops.example:8443", true, map[string]string{"Origin": "https://ops.example:8443"}, 200},
		{"the page with capitals in its host", "POST", "OPS.example", true, nil, 200},

		{"a form of another site", "POST", host, true, map[string]string{"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site", "Content-Type": "application/x-www-form-urlencoded", "Failover-Action": ""}, 403},
		{"a form with JSON as text", "POST", host, true, map[string]string{"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site", "Content-Type": "text/plain", "Failover-Action": ""}, 403},
		{"a multipart form", "POST", host, true, map[string]string{"Content-Type": "multipart/form-data; boundary=x", "Failover-Action": ""}, 403},
		{"a form of this site", "POST", host, true, map[string]string{"Content-Type": "application/x-www-form-urlencoded", "Failover-Action": ""}, 403},
		{"a script of another site", "POST", host, true, map[string]string{"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}, 403},
		{"a script of another site, in an old browser", "POST", host, true, map[string]string{"Origin": "https://evil.example", "Sec-Fetch-Site": ""}, 403},
		{"a sister site", "POST", host, true, map[string]string{"Origin": "https://www.example", "Sec-Fetch-Site": "same-site"}, 403},
		{"a sister site, in an old browser", "POST", host, true, map[string]string{"Origin": "https://evil.ops.example", "Sec-Fetch-Site": ""}, 403},
		{"a host with this one's name at its end", "POST", host, true, map[string]string{"Origin": "https://ops.example.evil.example", "Sec-Fetch-Site": ""}, 403},
		{"the same host at another port", "POST", host, true, map[string]string{"Origin": "https://ops.example:8443", "Sec-Fetch-Site": ""}, 403},
		{"this host without TLS", "POST", host, true, map[string]string{"Origin": "http://ops.example", "Sec-Fetch-Site": ""}, 403},
		{"the wrong Host", "POST", "evil.example", true, map[string]string{"Sec-Fetch-Site": ""}, 403},
		{"an opaque origin", "POST", host, true, map[string]string{"Origin": "null"}, 403},
		{"an origin with a user", "POST", host, true, map[string]string{"Origin": "https://x@ops.example"}, 403},
		{"an origin with a path", "POST", host, true, map[string]string{"Origin": "https://ops.example/x"}, 403},
		{"an origin of another scheme", "POST", host, true, map[string]string{"Origin": "ftp://ops.example"}, 403},
		{"an origin that is no URL", "POST", host, true, map[string]string{"Origin": "ops.example"}, 403},
		{"no Origin", "POST", host, true, map[string]string{"Origin": ""}, 403},
		{"no Origin, from a user's own doing", "POST", host, true, map[string]string{"Origin": "", "Sec-Fetch-Site": "none"}, 403},
		{"an unknown Sec-Fetch-Site", "POST", host, true, map[string]string{"Sec-Fetch-Site": "SAME-ORIGIN "}, 403},
		{"no header of the page", "POST", host, true, map[string]string{"Failover-Action": ""}, 403},
		{"no Content-Type", "POST", host, true, map[string]string{"Content-Type": ""}, 403},

		{"GET", "GET", host, true, nil, 405},
		{"HEAD", "HEAD", host, true, nil, 405},
		{"a preflight", "OPTIONS", host, true, map[string]string{"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}, 405},
		{"PUT", "PUT", host, true, nil, 405},
	} {
		a := new(actions)
		p, err := NewPage("/failover", NewFeed(newTestSource().source()), Handlers{Actions: a})
		if err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequest(c.method, "/failover/actions", strings.NewReader("{}"))
		r.Host = c.host
		if c.tls {
			r.TLS = new(tls.ConnectionState)
		} else {
			r.TLS = nil
		}
		for _, fields := range []map[string]string{ours, c.with} {
			for name, value := range fields {
				if value == "" {
					r.Header.Del(name)
				} else {
					r.Header.Set(name, value)
				}
			}
		}
		w := httptest.NewRecorder()
		p.ServeHTTP(w, r)
		if w.Code != c.want || len(a.bodies) != map[bool]int{true: 1}[c.want == 200] {
			t.Errorf("%s: %d %q, %d let through; want %d", c.name, w.Code, w.Body, len(a.bodies), c.want)
		}
		for name := range w.Header() {
			if strings.HasPrefix(name, "Access-Control-") {
				t.Errorf("%s: the response has %s", c.name, name)
			}
		}
	}
	// Two values of a field are no value.
	for _, name := range []string{"Origin", "Sec-Fetch-Site"} {
		r := httptest.NewRequest("POST", "https://ops.example/failover/actions", nil)
		for field, value := range ours {
			r.Header.Set(field, value)
		}
		r.Header.Add(name, ours[name])
		if foreign(r) == "" {
			t.Errorf("two values of %s pass", name)
		}
	}
}
