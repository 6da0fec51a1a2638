package failover

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
	"time"
)

func TestHTTPSEndpointsSpeakHTTP2(t *testing.T) {
	one, two := newTLSAPI(t, "one"), newTLSAPI(t, "two")
	transports := map[string]string{
		"trusted authority":  "tls_trust_pool file " + one.certificate(t),
		"trusted ca certs":   "tls_trusted_ca_certs " + one.certificate(t),
		"certificate unseen": "tls_insecure_skip_verify",
	}
	for name, option := range transports {
		t.Run(name, func(t *testing.T) {
			one.behave(one.fine)
			p := startCaddy(t, fmt.Sprintf("failover {\n\tendpoint https://%s {\n\t\tname one\n\t}\n\tendpoint https://%s {\n\t\tname two\n\t}\n\ttransport http {\n\t\t%s\n\t}\n}",
				one.address, two.address, option))
			if got := p.call("POST", "/", "a body"); got.status != 200 || got.body != "one"+digest("a body") {
				t.Fatalf("got %+v", got)
			}
			if r := one.last(t); r.ProtoMajor != 2 || r.TLS == nil || r.Host != one.address {
				t.Errorf("the endpoint got %s for %s", r.Proto, r.Host)
			}
			one.answer(http.StatusServiceUnavailable)
			if got := p.call("PUT", "/", "a body"); got.status != 200 || got.body != "two"+digest("a body") {
				t.Fatalf("on failover: got %+v", got)
			}
			if r := two.last(t); r.ProtoMajor != 2 || r.Host != two.address {
				t.Errorf("the next endpoint got %s for %s", r.Proto, r.Host)
			}
		})
	}
}

// TestACertificateThatIsNotTrustedIsAFailureOfKindTLS, which cannot have been
// processed, so that a POST moves on as well.
func TestACertificateThatIsNotTrustedIsAFailureOfKindTLS(t *testing.T) {
	one, two := newTLSAPI(t, "one"), newAPI(t, "two")
	p := startCaddy(t, fmt.Sprintf("failover {\n\tname api\n\tendpoint https://%s {\n\t\tname one\n\t}\n\tendpoint http://%s {\n\t\tname two\n\t}\n\theader_down X-Reason {http.failover.outcome}\n}",
		one.address, two.address))
	if got := p.call("POST", "/", "a body"); got.status != 200 || got.body != "two"+digest("a body") {
		t.Errorf("got %+v", got)
	}
	if len(one.requests()) != 0 {
		t.Error("the endpoint without a good certificate got the request")
	}
	if e := wantFailover(t, p, "one", "two"); e["reason"] != "tls" {
		t.Errorf("the failover is logged as %v", e)
	}
}

// wantFailover finds the log line of a failover.
func wantFailover(t *testing.T, p *proxy, from, to string) (line map[string]any) {
	t.Helper()
	eventually(t, waitForLog, "the failover is in the log", func() bool {
		for _, l := range p.lines("failover") {
			if l["endpoint"] == from && l["to"] == to {
				line = l
				return true
			}
		}
		return false
	})
	return line
}

func TestHTTPAndHTTPSEndpointsShareAPool(t *testing.T) {
	one, two, three := newAPI(t, "one"), newTLSAPI(t, "two"), newAPI(t, "three")
	p := startCaddy(t, fmt.Sprintf("failover {\n\tendpoint http://%s {\n\t\tname one\n\t}\n\tendpoint https://%s {\n\t\tname two\n\t}\n\tendpoint http://%s {\n\t\tname three\n\t}\n\ttransport http {\n\t\ttls_insecure_skip_verify\n\t}\n}",
		one.address, two.address, three.address))
	for i, want := range []*api{one, two, three} {
		if got := p.call("GET", "/", ""); got.status != 200 || got.body != want.name {
			t.Fatalf("with %d endpoints down: got %+v", i, got)
		}
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
	p := startCaddy(t, fmt.Sprintf("reverse_proxy %s %s {\n\tlb_policy failover {\n\t\tupstream %s {\n\t\t\turl https://example.com\n\t\t}\n\t\tupstream %s {\n\t\t\turl https://api.example.com:%s/base\n\t\t}\n\t}\n\ttransport http {\n\t\ttls_trusted_ca_certs %s\n\t}\n}",
		one.address, two.address, one.address, two.address, port, one.certificate(t)))
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
		if got := p.call("POST", "/", "x"); got.status != 200 || got.body != "Bearer second" {
			t.Fatalf("call %d: got %+v", i, got)
		}
	}
	if got := stateOf(t, "api", "first").totalsNow(); got.Attempts != 1 || got.Failures != 1 {
		t.Errorf("the first key has %+v", got)
	}
	if got := stateOf(t, "api", "second").totalsNow(); got.Successes != 5 || got.Failures != 0 {
		t.Errorf("the second key has %+v", got)
	}
}

func TestPathsAreJoinedToTheBaseURL(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	one.answer(http.StatusServiceUnavailable)
	p := startCaddy(t, fmt.Sprintf("failover {\n\tendpoint http://%s/v1/ {\n\t\tname one\n\t}\n\tendpoint http://%s/other%%2Fbase {\n\t\tname two\n\t}\n\tbreaker off\n\tretry {\n\t\tbudget 100%% 1000\n\t}\n}",
		one.address, two.address))
	cases := []struct{ path, one, two string }{
		{"/", "/v1/", "/other%2Fbase/"},
		{"/chat?stream=1&q=a%20b", "/v1/chat?stream=1&q=a%20b", "/other%2Fbase/chat?stream=1&q=a%20b"},
		{"/a%2Fb/c", "/v1/a%2Fb/c", "/other%2Fbase/a%2Fb/c"},
		{"/trailing/", "/v1/trailing/", "/other%2Fbase/trailing/"},
		{"/?", "/v1/?", "/other%2Fbase/?"},
	}
	for _, c := range cases {
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
	p := startCaddy(t, fmt.Sprintf("failover {\n\tname api\n\tendpoint http://us%%40er:pa%%2Fss@%s {\n\t\tname one\n\t}\n\tendpoint http://%s {\n\t\tname two\n\t}\n}", one.address, two.address))
	if got := p.call("GET", "/", "", "Authorization", "Bearer of-the-client"); got.status != 200 || got.body != "two" {
		t.Errorf("got %+v", got)
	}
	if user, password, _ := one.last(t).BasicAuth(); user != "us@er" || password != "pa/ss" {
		t.Errorf("the endpoint got %s and %s", user, password)
	}
	if got := two.last(t).Header.Values("Authorization"); len(got) > 0 {
		t.Errorf("the next endpoint got %q", got)
	}
	for _, l := range p.lines("") {
		if text := fmt.Sprint(l); strings.Contains(text, "pa/ss") || strings.Contains(text, "pa%2Fss") {
			t.Errorf("the password is in the log: %s", text)
		}
	}
}

// TestHTTP2EndpointsComeAndGoUnderLoad: many calls share a connection, which ends
// while they are on it.
func TestHTTP2EndpointsComeAndGoUnderLoad(t *testing.T) {
	one, two := newTLSAPI(t, "one"), newTLSAPI(t, "two")
	p := startCaddy(t, fmt.Sprintf("failover {\n\tname api\n\tendpoint https://%s {\n\t\tname one\n\t}\n\tendpoint https://%s {\n\t\tname two\n\t}\n\ttransport http {\n\t\ttls_insecure_skip_verify\n\t}\n%s\n}",
		one.address, two.address, quick))
	load := p.startLoad(200, http.MethodPost, "/", randomBody(4096))
	for range 3 {
		lasting(250 * time.Millisecond)
		one.down()
		lasting(250 * time.Millisecond)
		one.up(t, one.address)
	}
	eventually(t, 5*time.Second, "the primary has its full share again", func() bool {
		return stateOf(t, "api", "one").breakerNow() == stateClosed && shareOf(t, "api", "one") > 0.99
	})
	load.stop()
	if load.failed > 0 {
		t.Errorf("%d of %d calls failed: %q", load.failed, len(load.times), load.errors)
	}
	for _, a := range []*api{one, two} {
		if n := len(a.requests()); n == 0 || a.last(t).ProtoMajor != 2 {
			t.Errorf("endpoint %s got %d requests", a.name, n)
		}
	}
}

func TestAFullEndpointIsPassedOver(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	release := one.hang()
	p := startCaddy(t, fmt.Sprintf("failover {\n\tname api\n\tendpoint http://%s {\n\t\tname one\n\t\tmax_requests 2\n\t}\n\tendpoint http://%s {\n\t\tname two\n\t}\n}", one.address, two.address))
	done := make(chan struct{})
	for range 2 {
		go func() {
			if resp, err := p.do(http.MethodPost, "/", nil); err == nil {
				resp.Body.Close()
			}
			done <- struct{}{}
		}()
	}
	eventually(t, 2*time.Second, "the endpoint is full", func() bool { return one.hits.Load() == 2 })
	for range 20 {
		if got := p.call("POST", "/", ""); got.status != 200 || got.body != "two" {
			t.Fatalf("got %+v", got)
		}
	}
	one.behave(one.fine)
	release()
	<-done
	<-done
	if got := p.call("POST", "/", ""); got.body != "one" {
		t.Errorf("when it has room again: got %+v", got)
	}
}

// TestAnErrorOfTLSAfterTheHandshakeMayComeOfAProcessedRequest, so a POST is not sent
// again. The endpoint reads the whole request and sends a record that nobody can read.
func TestAnErrorOfTLSAfterTheHandshakeMayComeOfAProcessedRequest(t *testing.T) {
	for _, versions := range []string{"1.1", "1.1 2"} {
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
				authority := (&api{server: one}).certificate(t)
				p := startCaddy(t, fmt.Sprintf("failover {\n\tname api\n\tendpoint %s {\n\t\tname one\n\t}\n\tendpoint http://%s\n\ttransport http {\n\t\tversions %s\n\t\ttls_trust_pool file %s\n\t}\n}",
					one.URL, two.address, versions, authority))
				if got := p.call("POST", "/", randomBody(size)); got.status != 502 || two.hits.Load() != 0 {
					t.Errorf("got %+v, and the next endpoint got %d requests", got, two.hits.Load())
				}
				if want := map[string]int64{"1.1": 1, "1.1 2": 2}[versions]; protocol.Load() != want {
					t.Errorf("it was HTTP/%d", protocol.Load())
				}
				state := stateOf(t, "api", "one")
				state.mu.Lock()
				defer state.mu.Unlock()
				if state.lastFailure != failedReset {
					t.Errorf("the failure is %v", state.lastFailure)
				}
			})
		}
	}
}
