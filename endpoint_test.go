package failover

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp/headers"

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

// FuzzJoinURL checks that a joined URL has the scheme and host of the base URL, the path of the base URL
// followed by that of the request, both escaped as before, and the request's query, and that a server
// reads the same URL.
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
		{"//api.example", "a scheme is missing: write https://api.example, or http://api.example"},
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

// TestCredentials checks which endpoints get no credentials of the client, and whose quota a refusal is
// about.
func TestCredentials(t *testing.T) {
	keyed := &Endpoint{Name: "keyed", Upstream: "keyed:1", URL: "https://user:pass@keyed:1",
		Headers: &headers.HeaderOps{Set: http.Header{"X-Team": {"a"}}}}
	plain := &Endpoint{Name: "plain", Upstream: "plain:1"}
	for _, test := range []struct {
		name         string
		pool         *Policy
		e            *Endpoint
		strip, quota bool
	}{
		{"own credentials", &Policy{Endpoints: []*Endpoint{keyed, plain}}, keyed, true, true},
		{"beside one with its own", &Policy{Endpoints: []*Endpoint{keyed, plain}}, plain, true, false},
		{"none has any", &Policy{Endpoints: []*Endpoint{plain}}, plain, false, false},
		{"pass, own", &Policy{Endpoints: []*Endpoint{keyed, plain}, ClientCredentials: credentialsPass}, keyed, true, true},
		{"pass, none", &Policy{Endpoints: []*Endpoint{keyed, plain}, ClientCredentials: credentialsPass}, plain, false, false},
		{"strip", &Policy{Endpoints: []*Endpoint{plain}, ClientCredentials: credentialsStrip}, plain, true, false},
		{"quota of the endpoint", &Policy{Endpoints: []*Endpoint{plain}, Quota: quotaEndpoint}, plain, false, true},
		{"quota of the client", &Policy{Endpoints: []*Endpoint{keyed}, Quota: quotaClient}, keyed, true, false},
		{"an endpoint's quota comes first", &Policy{Endpoints: []*Endpoint{plain}, Quota: quotaEndpoint},
			&Endpoint{Name: "e", Upstream: "e:1", Quota: quotaClient}, false, false},
	} {
		target := test.pool.newTarget(test.e, 1)
		if target.Strip != test.strip || target.Quota != test.quota {
			t.Errorf("%s: strip %v, quota %v", test.name, target.Strip, target.Quota)
		}
	}
	if keyed.Headers.Set.Get("Authorization") != "" {
		t.Error("the credentials of the URL went into the configuration")
	}
}

func TestBaseURLsHaveNoDotSegments(t *testing.T) {
	for _, base := range []string{"http://a/../b", "http://a/b/..", "http://a/%2e%2e/b", "http://a/b/./c"} {
		if _, err := parseBaseURL(base); err == nil || !strings.Contains(err.Error(), "dot segment") {
			t.Errorf("%s: %v", base, err)
		}
	}
	if err := validateAsk("", "/..%2fadmin"); err == nil || !strings.Contains(err.Error(), "leads out") {
		t.Errorf("a check's uri: %v", err)
	}
}
