package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// pathsOutside are paths that some server resolves to a place outside the base URL's path.
var pathsOutside = []string{
	"/../secret", "/..", "/../", "/a/../../secret", "/a/b/../../../c", "/./../x", "/a/./../../x", "/a//../../x",
	"/%2e%2e/secret", "/%2E%2e/secret", "/.%2e/secret", "/%2e./secret",
	"/..%2fsecret", "/..%2Fsecret", "/%2e%2e%2fsecret", "/a%2f..%2f..%2fsecret", "/a/..%2f../x", "/a%2fb/../../x", "/a%2fb/../%2e%2e",
	"/%252e%252e%252fsecret", "/%252e%252e/secret", "/..%252fsecret", "/%25252e%25252e%25252fsecret", "/%%32%65%%32%65/x",
	"/%252525252525252e%252525252525252e/x", "/a/%252e%252e/..",
	"/..;/secret", "/..;x=y/secret", "/..;x=y;z/secret", "/%2e%2e;/secret", "/..%3bx/secret", "/..%3fx/secret", "/..%23/secret",
	"/..%5csecret", "/..%5Csecret", "/a%5c..%5c..%5csecret", "/..%255csecret", "/%5c..",
	"/%c0%ae%c0%ae/secret", "/%c0%2e%c0%2e/../x", "/..%c0%afsecret", "/..%c1%9csecret", "/%e0%80%ae%e0%80%ae/x", "/%f0%80%80%ae%f0%80%80%ae/x",
	"/%25c0%25ae%25c0%25ae/secret", "/%25u002e%25u002e/x", "/..%25u2215x",
	"/%ef%bc%8e%ef%bc%8e/secret", "/..%ef%bc%8fsecret", "/%e2%80%a5/secret",
	"/..%00/secret", "/..%00x/secret", "/.%00./secret", "/.%09./secret", "/..%0d/x", "/..%20/secret", "/...%20/secret",
	"//../x", "//a/../../x", "/;x/../y", "/%3b/../y",
}

// pathsInside are paths that every server resolves to a place below the base URL's path.
var pathsInside = []string{
	"/", "", "/a/../b", "/a/b/../../c", "/a/..", "/a/./b", "/a/%2e%2e/b", "/a%2f..%2fb", "/a/..;/b", "/a/..%2fb", "/v1/a%2fb/../c",
	"/a..b", "/..a", "/a..", "/a/..b/c", "/v1.2/x", "/.well-known/x", "/./a", "/%252e/x", "/100%25", "/a%2Fb%2Fc", "/%E4%B8%AD%E6%96%87/x",
	"/a%252fb/../x", "/a/b%252f..%252fc", "//a", "//", "/*", "/compare/main...dev", "/%ff", "/a;b=c/../d", "/%C3%A4/%2e%2e/x", "/a%5cb", "/%2fa/../b",
}

// TestPathsStayBelowTheBaseURL checks that a path that leads outside the base URL's path gets a 400 and
// reaches no endpoint.
func TestPathsStayBelowTheBaseURL(t *testing.T) {
	a, b := newAPI(t, "one"), newAPI(t, "two")
	for _, each := range []*api{a, b} {
		each.behave(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.RequestURI) })
	}
	p := startCaddy(t, fmt.Sprintf("failover {\nname api\nendpoint http://%s/tenant-a/api {\nheader Authorization secret\n}\nendpoint http://%s\nretry {\nhedge 10s\n}\n}", a.address, b.address))
	for _, path := range pathsOutside {
		if _, err := url.ParseRequestURI(path); err != nil {
			continue // the server refuses it
		}
		status, body := p.line("GET " + path + " HTTP/1.1")
		var answer struct {
			Error struct{ Type, Code, Message string }
		}
		if err := json.Unmarshal([]byte(body), &answer); status != 400 || err != nil || answer.Error.Type != "bad_request" || answer.Error.Message == "" {
			t.Errorf("%s: got %d %q", path, status, body)
		}
	}
	for _, line := range []string{"GET http://api.test/../x HTTP/1.1", "GET http:api.test/../x HTTP/1.1", "GET http:secret HTTP/1.1"} {
		if status, body := p.line(line); status != 400 {
			t.Errorf("%s: got %d %q", line, status, body)
		}
	}
	if n := a.hits.Load() + b.hits.Load(); n != 0 {
		t.Errorf("endpoints were asked %d times", n)
	}
	for _, e := range p.pool("api").Endpoints {
		if e.Attempts != 0 || e.Failures != 0 || e.Cancelled != 0 {
			t.Errorf("endpoint %s: %+v", e.Name, e)
		}
	}
	for _, path := range pathsInside {
		if path == "" || path == "/%ff" {
			continue
		}
		if status, body := p.line("GET " + path + " HTTP/1.1"); status != 200 || body != "/tenant-a/api"+path {
			t.Errorf("%s: got %d %q", path, status, body)
		}
	}
	if status, body := p.line("OPTIONS * HTTP/1.1"); status == 200 && body != "" && !strings.HasPrefix(body, "/tenant-a/api") {
		t.Errorf("OPTIONS *: got %d %q", status, body)
	}
}

// line sends a request line unchanged.
func (p *proxy) line(line string) (status int, body string) {
	p.t.Helper()
	conn, reader := p.raw(line + "\nHost: api.test\nConnection: close")
	defer conn.Close()
	got := p.rest(reader)
	return got.status, got.body
}
