package failover

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/headers"

	"github.com/apifailover/caddy-failover/internal/call"
	"github.com/apifailover/caddy-failover/internal/pool"
	"github.com/apifailover/caddy-failover/internal/target"
)

func mustParse(t testing.TB, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// FuzzJoinURL: the request's path follows the base's, each as it was escaped;
// the query is the request's, scheme and host are the base's; and what is sent
// is what a server reads.
func FuzzJoinURL(f *testing.F) {
	f.Add("https://api.example/v1/", "/chat/completions?x=%2F")
	f.Add("http://[::1]:80/a%2Fb", "/%2e%2e/c%2Fd//")
	f.Add("https://u:p@h/a;b=c/%ff", "//x//")
	f.Fuzz(func(t *testing.T, rawBase, rawRequest string) {
		base, err := parseBaseURL(rawBase)
		if err != nil {
			return
		}
		request, err := url.ParseRequestURI(rawRequest)
		if err != nil || request.Path == "*" || request.Opaque != "" {
			return
		}
		joined := target.JoinURL(base, request)
		if joined.Scheme != base.Scheme || joined.Host != base.Host || joined.User != nil || joined.RawQuery != request.RawQuery {
			t.Fatalf("%q before %q: got %q", rawBase, rawRequest, joined)
		}
		want := request.EscapedPath()
		if prefix := strings.TrimRight(base.EscapedPath(), "/"); prefix != "" {
			want = target.JoinSlash(prefix, want)
		}
		if got := joined.EscapedPath(); got != want {
			t.Fatalf("%q before %q: the path is %q, want %q", rawBase, rawRequest, got, want)
		}
		sent := joined.RequestURI()
		read, err := url.ParseRequestURI(sent)
		if err != nil {
			t.Fatalf("%q before %q: a server cannot read %q: %v", rawBase, rawRequest, sent, err)
		}
		if strings.HasPrefix(sent, "//") {
			return // a server takes that for a host, as it did when the client sent it
		}
		if read.Path != joined.Path || read.RawQuery != request.RawQuery {
			t.Fatalf("%q before %q: a server reads %q and %q", rawBase, rawRequest, read.Path, read.RawQuery)
		}
	})
}

func TestParseBaseURL(t *testing.T) {
	const secret = "sEcReT"
	for _, test := range []struct{ url, want string }{
		{"https://api.example", ""},
		{"http://user:" + secret + "@api.example:80/v1/", ""},
		{"api.example:443", "base URL api.example://: the scheme must be http or https"},
		{"ftp://user:" + secret + "@api.example", "base URL ftp://api.example: the scheme must be http or https"},
		{"//api.example", "base URL //api.example: the scheme must be http or https"},
		{"https:///v1", "base URL https:///v1: the host is missing"},
		{"https://:443", "base URL https://:443: the host is missing"},
		{"https://" + secret + "@", "base URL https://: the host is missing"},
		{"https://api.example/v1?key=" + secret, "base URL https://api.example/v1: a query is not allowed"},
		{"https://api.example/v1?", "base URL https://api.example/v1: a query is not allowed"},
		{"https://api.example/#" + secret, "base URL https://api.example/: a fragment is not allowed"},
		{"https://" + secret + "@api.example/?", "base URL https://api.example/: a query is not allowed"},
		{"https://api.example:port", `parsing base URL: parse "https://api.example:port": invalid port ":port" after host`},
		{"https://user:" + secret + "/x@api.example", "malformed base URL"},
		{"https://user:" + secret + "%zz@api.example", "malformed base URL"},
		{"https://user:" + secret + " @api.example", "malformed base URL"},
	} {
		_, err := parseBaseURL(test.url)
		switch {
		case test.want == "":
			if err != nil {
				t.Errorf("%s: %v", test.url, err)
			}
		case err == nil:
			t.Errorf("%s: no error", test.url)
		default:
			if !strings.HasPrefix(err.Error(), test.want) {
				t.Errorf("%s: %q, want %q", test.url, err, test.want)
			}
			if strings.Contains(err.Error(), secret) {
				t.Errorf("%s: the error shows a secret: %q", test.url, err)
			}
		}
		e := Endpoint{URL: test.url}
		if strings.Contains(e.at(), secret) {
			t.Errorf("%s is called %s", test.url, e.at())
		}
	}
}

func TestDialAddress(t *testing.T) {
	for raw, want := range map[string]string{
		"https://api.example":      "api.example:443",
		"http://api.example/v1":    "api.example:80",
		"https://api.example:8443": "api.example:8443",
		"http://[2001:db8::1]":     "[2001:db8::1]:80",
		"https://[::1]:8443/x":     "[::1]:8443",
	} {
		if got := dialAddress(mustParse(t, raw)); got != want {
			t.Errorf("%s: got %s, want %s", raw, got, want)
		}
	}
}

func TestOwnCredentials(t *testing.T) {
	set := func(field, value string) *headers.HeaderOps {
		return &headers.HeaderOps{Set: http.Header{field: {value}}}
	}
	for _, test := range []struct {
		name string
		e    Endpoint
		want bool
	}{
		{"nothing", Endpoint{}, false},
		{"another header", Endpoint{Headers: set("X-Team", "a")}, false},
		{"a placeholder of the request", Endpoint{Headers: set("X-Id", "{http.request.uuid}")}, false},
		{"authorization", Endpoint{Headers: set("authorization", "Bearer x")}, true},
		{"added", Endpoint{Headers: &headers.HeaderOps{Add: http.Header{"Api-Key": {"x"}}}}, true},
		{"x-api-key", Endpoint{Headers: set("X-Api-Key", "x")}, true},
		{"x-goog-api-key", Endpoint{Headers: set("x-goog-api-key", "x")}, true},
		{"the environment", Endpoint{Headers: set("X-Token", "key {env.KEY}")}, true},
		{"a file", Endpoint{Headers: set("X-Token", "{file./run/key}")}, true},
		{"removal", Endpoint{Headers: &headers.HeaderOps{Delete: []string{"Authorization"}}}, false},
		{"basic auth", Endpoint{URL: "https://u:p@api.example"}, true},
		{"a plain URL", Endpoint{URL: "https://api.example"}, false},
	} {
		if got := test.e.ownCredentials(); got != test.want {
			t.Errorf("%s: got %v", test.name, got)
		}
	}
}

// TestCredentials checks which endpoint gets what of the client's credentials,
// and whose quota a refusal speaks about.
func TestCredentials(t *testing.T) {
	keyed := &Endpoint{Name: "keyed", Upstream: "keyed:1", URL: "https://user:pass@keyed:1",
		Headers: &headers.HeaderOps{Set: http.Header{"X-Team": {"a"}}}}
	plain := &Endpoint{Name: "plain", Upstream: "plain:1"}
	for _, test := range []struct {
		name                  string
		pool                  *Policy
		e                     *Endpoint
		strip, quota          bool
		authorization, cookie string
	}{
		{"own credentials", &Policy{Endpoints: []*Endpoint{keyed, plain}}, keyed, true, true, "Basic dXNlcjpwYXNz", ""},
		{"beside one with its own", &Policy{Endpoints: []*Endpoint{keyed, plain}}, plain, true, false, "", ""},
		{"none has any", &Policy{Endpoints: []*Endpoint{plain}}, plain, false, false, "client", "c=1"},
		{"pass, own", &Policy{Endpoints: []*Endpoint{keyed, plain}, ClientCredentials: credentialsPass}, keyed, true, true, "Basic dXNlcjpwYXNz", ""},
		{"pass, none", &Policy{Endpoints: []*Endpoint{keyed, plain}, ClientCredentials: credentialsPass}, plain, false, false, "client", "c=1"},
		{"strip", &Policy{Endpoints: []*Endpoint{plain}, ClientCredentials: credentialsStrip}, plain, true, false, "", ""},
		{"quota of the endpoint", &Policy{Endpoints: []*Endpoint{plain}, Quota: quotaEndpoint}, plain, false, true, "client", "c=1"},
		{"quota of the client", &Policy{Endpoints: []*Endpoint{keyed}, Quota: quotaClient}, keyed, true, false, "Basic dXNlcjpwYXNz", ""},
		{"an endpoint's quota comes first", &Policy{Endpoints: []*Endpoint{plain}, Quota: quotaEndpoint},
			&Endpoint{Name: "e", Upstream: "e:1", Quota: quotaClient}, false, false, "client", "c=1"},
	} {
		target := test.pool.newTarget(test.e, 1)
		if target.Strip != test.strip || target.Quota != test.quota {
			t.Errorf("%s: strip %v, quota %v", test.name, target.Strip, target.Quota)
		}
		r := httptest.NewRequest("GET", "http://api.test/", nil)
		r.Header.Set("Authorization", "client")
		r.Header.Add("Cookie", "c=1")
		r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), nil, nil)
		h := &call.Handler{Handler: pool.Handler{Pool: new(pool.Pool)}, Rules: call.Rules{Strips: true}}
		c := h.CallFor(r, nil)
		a := c.NewAttempt(target, nil, time.Now())
		a.Begin(r.Context(), 0)
		out, err := a.Prepare(r)
		if err != nil {
			t.Fatal(err)
		}
		if got := out.Header.Get("Authorization"); got != test.authorization {
			t.Errorf("%s: Authorization %q, want %q", test.name, got, test.authorization)
		}
		if got := out.Header.Get("Cookie"); got != test.cookie {
			t.Errorf("%s: Cookie %q, want %q", test.name, got, test.cookie)
		}
		if r.Header.Get("Authorization") != "client" || r.Header.Get("Cookie") != "c=1" {
			t.Errorf("%s: the shared request was changed: %v", test.name, r.Header)
		}
	}
	if keyed.Headers.Set.Get("Authorization") != "" {
		t.Error("the credentials of the URL went into the configuration")
	}
}

// TestHeaderUpStays wants a credential that the proxy's own header_up sets to
// reach the endpoint, where the client's would not.
func TestHeaderUpStays(t *testing.T) {
	policy := &Policy{ClientCredentials: credentialsStrip, Endpoints: []*Endpoint{{Name: "e", Upstream: "e:1"}}}
	h := &call.Handler{Handler: pool.Handler{Pool: new(pool.Pool)}, Rules: call.Rules{Strips: true}}
	r := httptest.NewRequest("GET", "http://api.test/", nil)
	r.Header.Set("Authorization", "client")
	r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), nil, nil)
	c := h.CallFor(r, nil)
	r.Header.Set("Authorization", "header_up")
	a := c.NewAttempt(policy.newTarget(policy.Endpoints[0], 1), nil, time.Now())
	a.Begin(r.Context(), 0)
	out, err := a.Prepare(r)
	if err != nil {
		t.Fatal(err)
	}
	if got := out.Header.Get("Authorization"); got != "header_up" {
		t.Errorf("Authorization is %q", got)
	}
}
