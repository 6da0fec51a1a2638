package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
)

// basePaths returns the paths in a file of internal/target/testdata. Those in paths_outside.txt lead
// outside the base URL's path at some server.
func basePaths(t *testing.T, file string) []string {
	t.Helper()
	text, err := os.ReadFile("../internal/target/testdata/" + file)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(text))
}

// TestPathsStayBelowTheBaseURL checks that a path that leads outside the base URL's path gets a 400 and
// reaches no endpoint.
func TestPathsStayBelowTheBaseURL(t *testing.T) {
	a, b := newAPI(t, "one"), newAPI(t, "two")
	for _, each := range []*api{a, b} {
		each.behave(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.RequestURI) })
	}
	p := startCaddy(t, fmt.Sprintf("failover {\nname api\nendpoint http://%s/tenant-a/api {\nheader Authorization secret\n}\nendpoint http://%s\nretry {\nhedge 10s\n}\n}", a.address, b.address))
	for _, path := range basePaths(t, "paths_outside.txt") {
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
	for _, path := range basePaths(t, "paths_inside.txt") {
		if path == "/%ff" {
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
