package probe

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp/headers"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/apifailover/caddy-failover/internal/endpoint"
	"github.com/apifailover/caddy-failover/internal/outcome"
	"github.com/apifailover/caddy-failover/internal/target"
)

// A trip answers requests of checks.
type trip func(*http.Request) (*http.Response, error)

func (t trip) RoundTrip(r *http.Request) (*http.Response, error) { return t(r) }

// answers returns a trip that answers with a status by the method, and with a body. It adds the
// requests to asked.
func answers(asked *[]*http.Request, body string, statuses map[string]int) trip {
	return func(r *http.Request) (*http.Response, error) {
		*asked = append(*asked, r)
		return &http.Response{StatusCode: statuses[r.Method], Body: io.NopCloser(strings.NewReader(body))}, nil
	}
}

// config returns the settings of a check that expects a status of 2xx.
func config(t *testing.T, method string) *endpoint.CheckConfig {
	t.Helper()
	expect, err := outcome.ParseStatusSet([]string{"2xx"})
	if err != nil {
		t.Fatal(err)
	}
	return &endpoint.CheckConfig{Timeout: 5 * time.Second, Ask: endpoint.Ask{Method: method, Expect: expect}}
}

func at(address string) *target.Target {
	return &target.Target{Upstream: &reverseproxy.Upstream{Dial: address}}
}

// TestGETAfterHEAD checks when a failed HEAD is followed by a GET, and which method later checks
// use.
func TestGETAfterHEAD(t *testing.T) {
	for name, test := range map[string]struct {
		method    string
		gets      bool
		head, get int
		asked     string
		passed    bool
		learns    bool // result.Gets
		why       string
	}{
		"HEAD passes":                  {"HEAD", false, 200, 500, "HEAD", true, false, endpoint.CheckPassed},
		"HEAD is refused, GET passes":  {"HEAD", false, 405, 200, "HEAD GET", true, true, endpoint.CheckPassed},
		"HEAD is unknown, GET passes":  {"HEAD", false, 501, 200, "HEAD GET", true, true, endpoint.CheckPassed},
		"404 for HEAD only":            {"HEAD", false, 404, 200, "HEAD GET", true, true, endpoint.CheckPassed},
		"404 for both":                 {"HEAD", false, 404, 404, "HEAD GET", false, false, "status 404"},
		"HEAD is refused, GET fails":   {"HEAD", false, 405, 503, "HEAD GET", false, true, "status 503"},
		"503 does not depend on HEAD":  {"HEAD", false, 503, 200, "HEAD", false, false, "status 503"},
		"429 does not depend on HEAD":  {"HEAD", false, 429, 200, "HEAD", false, false, "status 429"},
		"redirects do not depend, too": {"HEAD", false, 302, 200, "HEAD", false, false, "status 302"},
		"GET is known to be needed":    {"HEAD", true, 405, 200, "GET", true, false, endpoint.CheckPassed},
		"GET as configured":            {"GET", false, 200, 404, "GET", false, false, "status 404"},
		"PUT as configured":            {"PUT", true, 200, 204, "PUT", true, false, endpoint.CheckPassed},
	} {
		t.Run(name, func(t *testing.T) {
			var asked []*http.Request
			result := New(t.Context(), config(t, test.method), answers(&asked, "", map[string]int{"HEAD": test.head, "GET": test.get, "PUT": test.get}), at("one:80")).Run(test.gets)
			var methods []string
			for _, r := range asked {
				methods = append(methods, r.Method)
			}
			if got := strings.Join(methods, " "); got != test.asked {
				t.Errorf("asked %q, want %q", got, test.asked)
			}
			if result.Passed != test.passed || result.Gets != test.learns || result.Why != test.why {
				t.Errorf("got %+v", result)
			}
			if result.Latency <= 0 {
				t.Error("no latency")
			}
		})
	}
}

// TestRequest checks that a check goes where a request through the proxy goes, with the
// credentials of the endpoint.
func TestRequest(t *testing.T) {
	base := func(text string) *url.URL {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	for name, test := range map[string]struct {
		at        *target.Target
		change    func(*endpoint.CheckConfig)
		url, host string
		header    http.Header
	}{
		"an address":            {at("one:81"), nil, "//one:81/", "one:81", nil},
		"a path and a query":    {at("one:81"), func(c *endpoint.CheckConfig) { c.Path, c.Query = "/up", "deep=1" }, "//one:81/up?deep=1", "one:81", nil},
		"a port of its own":     {at("one:81"), func(c *endpoint.CheckConfig) { c.Port = 9000 }, "//one:9000/", "one:9000", nil},
		"IPv6":                  {at("[::1]:81"), func(c *endpoint.CheckConfig) { c.Port = 9000 }, "//[::1]:9000/", "[::1]:9000", nil},
		"a dynamic upstream":    {&target.Target{Address: "two:82"}, nil, "//two:82/", "two:82", nil},
		"a socket":              {at("unix//run/api.sock"), func(c *endpoint.CheckConfig) { c.Port = 9000 }, "//%2Frun%2Fapi.sock/", "localhost", nil},
		"below a base URL":      {&target.Target{Upstream: &reverseproxy.Upstream{Dial: "api.test:443"}, URL: base("https://api.test/v1")}, func(c *endpoint.CheckConfig) { c.Path = "/models" }, "https://api.test/v1/models", "api.test", nil},
		"an escaped slash":      {&target.Target{Upstream: &reverseproxy.Upstream{Dial: "api.test:443"}, URL: base("https://api.test/v1")}, func(c *endpoint.CheckConfig) { c.Path, c.RawPath = "/a/b", "/a%2Fb" }, "https://api.test/v1/a%2Fb", "api.test", nil},
		"a base URL and a port": {&target.Target{Upstream: &reverseproxy.Upstream{Dial: "api.test:443"}, URL: base("https://api.test/v1")}, func(c *endpoint.CheckConfig) { c.Port = 9000 }, "https://api.test:9000/v1", "api.test:9000", nil},
		"fields of the check": {at("one:81"), func(c *endpoint.CheckConfig) {
			c.Headers = http.Header{"x-check": {"{http.reverse_proxy.upstream.host}", "b"}, "host": {"named.test"}, "User-Agent": {"mine"}}
		}, "//one:81/", "named.test", http.Header{"X-Check": {"one", "b"}, "User-Agent": {"mine"}}},
		"fields of the endpoint": {
			&target.Target{Upstream: &reverseproxy.Upstream{Dial: "one:81"}, Headers: &headers.HeaderOps{Set: http.Header{"Authorization": {"Bearer secret"}}}}, nil,
			"//one:81/", "one:81", http.Header{"Authorization": {"Bearer secret"}, "User-Agent": {userAgent}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config(t, http.MethodGet)
			if test.change != nil {
				test.change(cfg)
			}
			var asked []*http.Request
			if result := New(t.Context(), cfg, answers(&asked, "", map[string]int{"GET": 204}), test.at).Run(false); !result.Passed {
				t.Fatalf("got %+v", result)
			}
			r := asked[0]
			if got := r.URL.String(); got != test.url || r.Host != test.host {
				t.Errorf("asked %s of %s, want %s of %s", got, r.Host, test.url, test.host)
			}
			if test.header == nil {
				test.header = http.Header{"User-Agent": {userAgent}}
			}
			for field, want := range test.header {
				if got := r.Header.Values(field); !slices.Equal(got, want) {
					t.Errorf("%s: %q, want %q", field, got, want)
				}
			}
		})
	}
}

func TestExpectedBody(t *testing.T) {
	cfg := config(t, http.MethodGet)
	cfg.Pattern = regexp.MustCompile(`"ok"\s*:\s*true`)
	for name, test := range map[string]struct {
		body string
		why  string
	}{
		"as expected":           {`{"ok": true}`, endpoint.CheckPassed},
		"other":                 {`{"ok": false}`, "body: no match"},
		"none":                  {"", "body: no match"},
		"after the bytes read":  {strings.Repeat(" ", maxBody) + `{"ok": true}`, "body: no match"},
		"within the bytes read": {strings.Repeat(" ", maxBody-20) + `{"ok": true}`, endpoint.CheckPassed},
	} {
		var asked []*http.Request
		result := New(t.Context(), cfg, answers(&asked, test.body, map[string]int{"GET": 200}), at("one:80")).Run(false)
		if result.Why != test.why || result.Passed != (test.why == endpoint.CheckPassed) {
			t.Errorf("%s: got %+v", name, result)
		}
		if !result.Passed && (result.Cause.Method != http.MethodGet || result.Cause.Path != "/" || result.Cause.What == "") {
			t.Errorf("%s: the cause is %+v", name, result.Cause)
		}
	}
}

// stuck is a body that brings nothing until its request's context ends.
type stuck struct{ ctx context.Context }

func (s stuck) Read([]byte) (int, error) {
	<-s.ctx.Done()
	return 0, s.ctx.Err()
}

func (stuck) Close() error { return nil }

// TestEndsInTime checks that a check ends within its timeout, whatever the endpoint does.
func TestEndsInTime(t *testing.T) {
	answer := func(body bool) trip {
		return func(r *http.Request) (*http.Response, error) {
			if body {
				return &http.Response{StatusCode: 200, Body: stuck{r.Context()}}, nil
			}
			<-r.Context().Done()
			return nil, r.Context().Err()
		}
	}
	for name, test := range map[string]struct {
		trip    trip
		pattern bool
		why     string
	}{
		"no response":            {answer(false), false, "timeout: timeout after 5s"},
		"a body that is awaited": {answer(true), true, "body: timeout"},
		"an error":               {func(*http.Request) (*http.Response, error) { return nil, errors.New("broken") }, false, "reset: broken"},
		"a panic":                {func(*http.Request) (*http.Response, error) { panic("lost") }, false, "panic: lost"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := config(t, http.MethodGet)
				if test.pattern {
					cfg.Pattern = regexp.MustCompile("ok")
				}
				began := time.Now()
				result := New(t.Context(), cfg, test.trip, at("one:80")).Run(false)
				if result.Passed || result.Why != test.why {
					t.Errorf("got %+v", result)
				}
				if took := time.Since(began); took > cfg.Timeout {
					t.Errorf("the check took %v", took)
				}
			})
		})
	}
}

// TestABodyThatNeverEnds checks that a check whose status is enough passes, though the body goes
// on, as that of a stream of events does.
func TestABodyThatNeverEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stream := trip(func(r *http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 200, Body: stuck{r.Context()}}, nil
		})
		if result := New(t.Context(), config(t, http.MethodGet), stream, at("one:80")).Run(false); !result.Passed {
			t.Errorf("got %+v", result)
		}
	})
}

// TestCheckAgain makes two checks with one probe: placeholders have their values of the time.
func TestCheckAgain(t *testing.T) {
	var asked []*http.Request
	cfg := config(t, http.MethodGet)
	cfg.Headers = http.Header{"X-Host": {"{env.PROBE_HOST}"}}
	fixed, moving := New(t.Context(), cfg, answers(&asked, "", map[string]int{"GET": 200}), at("one:80")),
		New(t.Context(), cfg, answers(&asked, "", map[string]int{"GET": 200}), at("{env.PROBE_HOST}:80"))
	for _, host := range []string{"first", "second"} {
		t.Setenv("PROBE_HOST", host)
		asked = nil
		for _, p := range []*Probe{fixed, moving} {
			if result := p.Run(false); !result.Passed {
				t.Fatal(result.Why)
			}
		}
		got := []string{asked[0].URL.Host, asked[0].Header.Get("X-Host"), asked[1].URL.Host, asked[1].Header.Get("X-Host")}
		if want := []string{"one:80", host, host + ":80", host}; !slices.Equal(got, want) {
			t.Errorf("hosts and fields %q, want %q", got, want)
		}
	}
}
