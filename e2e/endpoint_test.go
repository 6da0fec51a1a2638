package e2e

import (
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
)

func TestHTTPSEndpointsSpeakHTTP2(t *testing.T) {
	one, two := newTLSAPI(t, "one"), newTLSAPI(t, "two")
	for name, option := range map[string]string{
		"trusted authority":  "tls_trust_pool file " + one.certificate(t),
		"trusted ca certs":   "tls_trusted_ca_certs " + one.certificate(t),
		"certificate unseen": "tls_insecure_skip_verify",
	} {
		t.Run(name, func(t *testing.T) {
			one.behave(one.fine)
			p := startCaddy(t, site("transport http {\n\t\t"+option+"\n\t}", one, two))
			p.call("POST", "/", "a body").want(t, "all well", 200, "one"+digest("a body"))
			if r := one.last(t); r.ProtoMajor != 2 || r.TLS == nil || r.Host != one.address {
				t.Errorf("the endpoint got %s for %s", r.Proto, r.Host)
			}
			one.answer(http.StatusServiceUnavailable)
			p.call("PUT", "/", "a body").want(t, "on failover", 200, "two"+digest("a body"))
			if r := two.last(t); r.ProtoMajor != 2 || r.Host != two.address {
				t.Errorf("the next endpoint got %s for %s", r.Proto, r.Host)
			}
		})
	}
}

// TestACertificateThatIsNotTrustedIsAFailureOfKindTLS checks that a POST moves on as well, since the endpoint
// cannot have processed it.
func TestACertificateThatIsNotTrustedIsAFailureOfKindTLS(t *testing.T) {
	one, two := newTLSAPI(t, "one"), newAPI(t, "two")
	p := startCaddy(t, site("", one, two))
	p.call("POST", "/", "a body").want(t, "the call", 200, "two"+digest("a body"))
	if len(one.requests()) != 0 {
		t.Error("the endpoint without a good certificate got the request")
	}
	if got := p.one("one").lastOutcome(); got != "tls" {
		t.Errorf("the failure is %s", got)
	}
	var reason any
	eventually(t, "the failover is in the log", func() bool {
		for _, l := range p.lines("failover") {
			if l["endpoint"] == "one" && l["to"] == "two" {
				reason = l["reason"]
				return true
			}
		}
		return false
	})
	if reason != "tls" {
		t.Errorf("the failover is logged with the reason %v", reason)
	}
}

func TestHTTPAndHTTPSEndpointsShareAPool(t *testing.T) {
	one, two, three := newAPI(t, "one"), newTLSAPI(t, "two"), newAPI(t, "three")
	p := startCaddy(t, site("transport http {\n\t\ttls_insecure_skip_verify\n\t}", one, two, three))
	for i, want := range []*api{one, two, three} {
		p.get().want(t, fmt.Sprintf("with %d endpoints down", i), 200, want.name)
		if r := want.last(t); (r.TLS != nil) != want.tls || r.Host != want.address {
			t.Errorf("endpoint %s got a request for %s, TLS %t", want.name, r.Host, r.TLS != nil)
		}
		want.answer(http.StatusServiceUnavailable)
	}
}

// TestTheServerNameAndHostAreTheEndpointsOwn: what is dialed is another thing.
func TestTheServerNameAndHostAreTheEndpointsOwn(t *testing.T) {
	one, two := newTLSAPI(t, "one"), newTLSAPI(t, "two")
	_, port, _ := net.SplitHostPort(two.address)
	p := startCaddy(t, fmt.Sprintf(`reverse_proxy %s %s {
	lb_policy failover {
		upstream %s {
			url https://example.com
		}
		upstream %s {
			url https://api.example.com:%s/base
		}
	}
	transport http {
		tls_trusted_ca_certs %s
	}
}`, one.address, two.address, one.address, two.address, port, one.certificate(t)))
	p.call("GET", "/x", "")
	if r := one.last(t); r.Host != "example.com" || r.TLS.ServerName != "example.com" || r.URL.Path != "/x" {
		t.Errorf("the endpoint got %s for host %s, server name %s", r.URL, r.Host, r.TLS.ServerName)
	}
	one.answer(http.StatusServiceUnavailable)
	p.call("GET", "/x", "")
	if r := two.last(t); r.Host != "api.example.com:"+port || r.TLS.ServerName != "api.example.com" || r.URL.Path != "/base/x" {
		t.Errorf("the next endpoint got %s for host %s, server name %s", r.URL, r.Host, r.TLS.ServerName)
	}
}

func TestTwoEndpointsOnOneAddressKeepTheirKeysAndStatesApart(t *testing.T) {
	both := newAPI(t, "both")
	both.behave(func(w http.ResponseWriter, r *http.Request) {
		if key := r.Header.Get("Authorization"); key == "Bearer first" {
			w.Header().Set("Retry-After", "30")
			w.WriteHeader(http.StatusTooManyRequests)
		} else {
			fmt.Fprint(w, key)
		}
	})
	p := startCaddy(t, fmt.Sprintf("failover {\n\tname api\n\tendpoint http://%s {\n\t\tname first\n\t\theader Authorization \"Bearer first\"\n\t}\n\tendpoint http://%s {\n\t\tname second\n\t\theader Authorization \"Bearer second\"\n\t}\n}",
		both.address, both.address))
	for i := range 5 {
		p.call("POST", "/", "x").want(t, fmt.Sprint("call ", i), 200, "Bearer second")
	}
	p.wantTotals("first", totals{Attempts: 1, Failures: 1})
	p.wantTotals("second", totals{Attempts: 5, Successes: 5})
}

func TestPathsAreJoinedToTheBaseURL(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	one.answer(http.StatusServiceUnavailable)
	p := startCaddy(t, fmt.Sprintf("failover {\n\tendpoint http://%s/v1/ {\n\t\tname one\n\t}\n\tendpoint http://%s/other%%2Fbase {\n\t\tname two\n\t}\n\tbreaker off\n\tretry {\n\t\tbudget 100%% 1000\n\t}\n}",
		one.address, two.address))
	for _, c := range []struct{ path, one, two string }{
		{"/", "/v1/", "/other%2Fbase/"},
		{"/chat?stream=1&q=a%20b", "/v1/chat?stream=1&q=a%20b", "/other%2Fbase/chat?stream=1&q=a%20b"},
		{"/a%2Fb/c", "/v1/a%2Fb/c", "/other%2Fbase/a%2Fb/c"},
		{"/trailing/", "/v1/trailing/", "/other%2Fbase/trailing/"},
		{"/?", "/v1/?", "/other%2Fbase/?"},
	} {
		p.call("GET", c.path, "")
		if got := one.last(t).RequestURI; got != c.one {
			t.Errorf("%s: the endpoint got %s, want %s", c.path, got, c.one)
		}
		if got := two.last(t).RequestURI; got != c.two {
			t.Errorf("%s: the next endpoint got %s, want %s", c.path, got, c.two)
		}
	}
}

func TestUserinfoOfABaseURLBecomesBasicAuth(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	one.answer(http.StatusForbidden) // of its own credentials: the next is asked
	p := startCaddy(t, strings.Replace(site("", one, two), "http://"+one.address, "http://us%40er:pa%2Fss@"+one.address, 1))
	p.call("GET", "/", "", "Authorization", "Bearer of-the-client").want(t, "the call", 200, "two")
	if user, password, _ := one.last(t).BasicAuth(); user != "us@er" || password != "pa/ss" {
		t.Errorf("the endpoint got %s and %s", user, password)
	}
	if got := two.last(t).Header.Values("Authorization"); len(got) > 0 {
		t.Errorf("the next endpoint got %q", got)
	}
	eventually(t, "the failover is in the log", func() bool { return len(p.lines("failover")) > 0 })
	for _, l := range p.lines("") {
		if text := fmt.Sprint(l); strings.Contains(text, "pa/ss") || strings.Contains(text, "pa%2Fss") {
			t.Errorf("the password is in the log: %s", text)
		}
	}
}

// TestHTTP2EndpointsComeAndGoUnderLoad checks calls that share a connection which ends while they use it.
func TestHTTP2EndpointsComeAndGoUnderLoad(t *testing.T) {
	one, two := newTLSAPI(t, "one"), newTLSAPI(t, "two")
	p := startCaddy(t, site("transport http {\n\t\ttls_insecure_skip_verify\n\t}\n"+quick, one, two))
	load := p.startLoad(200, http.MethodPost, randomBody(4096))
	for range 3 {
		load.await(50)
		one.down()
		load.await(50)
		one.up(t, one.address)
	}
	p.back("api", "one")
	load.stop()
	load.wantNoFailure()
	for _, a := range []*api{one, two} {
		if n := len(a.requests()); n == 0 || a.last(t).ProtoMajor != 2 {
			t.Errorf("endpoint %s got %d requests", a.name, n)
		}
	}
}

func TestAFullEndpointIsPassedOver(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	release := one.hang()
	p := startCaddy(t, edited("api", "", []*api{one, two}, "max_requests 2"))
	hanging := []<-chan string{p.waiting(http.MethodPost, "/"), p.waiting(http.MethodPost, "/")}
	eventually(t, "the endpoint is full", func() bool { return one.hits.Load() == 2 })
	for range 20 {
		p.call("POST", "/", "").want(t, "while it is full", 200, "two")
	}
	one.behave(one.fine)
	release()
	for _, answer := range hanging {
		receive(t, "the answer to a call that hung", answer)
	}
	p.call("POST", "/", "").want(t, "when it has room again", 200, "one")
}

// TestAnErrorOfTLSAfterTheHandshakeMayComeOfAProcessedRequest checks that a POST is not sent again if the
// endpoint reads the whole request and then sends a record that cannot be decrypted.
func TestAnErrorOfTLSAfterTheHandshakeMayComeOfAProcessedRequest(t *testing.T) {
	for versions, want := range map[string]int64{"1.1": 1, "1.1 2": 2} {
		for _, size := range []int{100, 2 * smallBody} {
			t.Run(fmt.Sprintf("HTTP %s, %d bytes", versions, size), func(t *testing.T) {
				var conn atomic.Pointer[net.Conn]
				var protocol atomic.Int64
				one := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					protocol.Store(int64(r.ProtoMajor))
					_, _ = io.Copy(io.Discard, r.Body)
					_, _ = (*conn.Load()).Write([]byte("\x17\x03\x03\x00\x20garbage garbage garbage garbage "))
					<-r.Context().Done()
				}))
				one.EnableHTTP2 = true
				one.Config.ErrorLog = log.New(io.Discard, "", 0)
				one.TLS = &tls.Config{GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
					conn.Store(&hello.Conn)
					return nil, nil
				}}
				one.StartTLS()
				defer one.Close()
				two := newAPI(t, "two")
				p := startCaddy(t, fmt.Sprintf("failover {\n\tname api\n\tendpoint %s {\n\t\tname one\n\t}\n\tendpoint http://%s\n\ttransport http {\n\t\tversions %s\n\t\ttls_trust_pool file %s\n\t}\n}",
					one.URL, two.address, versions, certificateOf(t, one)))
				if got := p.call("POST", "/", randomBody(size)); got.status != 502 || two.hits.Load() != 0 {
					t.Errorf("got %+v, and the next endpoint got %d requests", got, two.hits.Load())
				}
				if got := protocol.Load(); got != want {
					t.Errorf("it was HTTP/%d", got)
				}
				if got := p.one("one").lastOutcome(); got != "reset" {
					t.Errorf("the failure is %s", got)
				}
			})
		}
	}
}
