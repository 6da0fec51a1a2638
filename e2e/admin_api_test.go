package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestAdminShowsPools(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	p := startCaddy(t, site("", one, two))
	p.get()
	var all []poolStatus
	p.read("/failover/pools", &all)
	if len(all) != 1 || all[0].Name != "api" || len(all[0].Endpoints) != 2 || all[0].Endpoints[0].Successes != 1 {
		t.Errorf("pools: %+v", all)
	}
	var pool poolStatus
	p.read("/failover/pools/api", &pool)
	if pool.Name != "api" || len(pool.Endpoints) != 2 {
		t.Errorf("pool: %+v", pool)
	}
	if e := p.endpoint("api", "two"); e.Name != "two" || e.Priority != 2 || e.Address != two.address {
		t.Errorf("endpoint: %+v", e)
	}
	status, header, _ := p.exchange(http.MethodHead, "/failover/pools", "")
	if status != 200 || header.Get("Content-Type") != "application/json" || header.Get("Cache-Control") != "no-store" {
		t.Errorf("HEAD: %d %v", status, header)
	}
}

func TestAdminWithoutPools(t *testing.T) {
	p := startCaddy(t, "respond hello")
	status, _, body := p.exchange(http.MethodGet, "/failover/pools", "")
	if status != 200 || body != "[]\n" {
		t.Errorf("pools: %d %s", status, body)
	}
	status, _, body = p.exchange(http.MethodGet, "/failover/pools/api", "")
	if status != 404 || !strings.Contains(body, `there is no pool \"api\"; there are none`) {
		t.Errorf("pool: %d %s", status, body)
	}
}

// TestAdminRefuses checks that the answer to a bad request names what is wrong with it.
func TestAdminRefuses(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	p := startCaddy(t, site("", one, two))
	const endpoint = "/failover/pools/api/endpoints/one"
	for _, c := range []struct {
		method, path, body string
		status             int
		says, allow        string
	}{
		{"GET", "/failover/", "", 404, "there are /failover/pools", ""},
		{"GET", "/failover/pool", "", 404, "nothing at /failover/pool", ""},
		{"GET", "/failover/pools/api/", "", 404, "nothing at", ""},
		{"GET", "/failover/pools/other", "", 404, `no pool "other"; there are "api"`, ""},
		{"GET", "/failover/pools/api/endpoints/three", "", 404, `no endpoint "three"; it has "one", "two"`, ""},
		{"POST", "/failover/pools/api/endpoints/three/drain", "", 404, `no endpoint "three"; it has "one", "two"`, ""},
		{"POST", "/failover/pools/other/endpoints/one/drain", "", 404, `no pool "other"; there are "api"`, ""},
		{"POST", endpoint + "/explode", "", 404, `unknown action "explode"; there are "drain", "enable", "trip", "reset"`, ""},
		{"GET", "/failover/pools/x%2F..%2F..%2Fapi", "", 400, "path: ", ""},
		{"POST", "/failover/pools", "", 405, "POST is not allowed", "GET, HEAD, OPTIONS"},
		{"DELETE", "/failover/pools/api", "", 405, "DELETE", "GET, HEAD, OPTIONS"},
		{"PUT", endpoint, "", 405, "PUT", "GET, PATCH, HEAD, OPTIONS"},
		{"GET", endpoint + "/drain", "", 405, "GET is not allowed", "POST, OPTIONS"},
		{"OPTIONS", endpoint + "/drain", "", 204, "", "POST, OPTIONS"},
		{"POST", "/failover/events", "", 405, "POST", "GET, HEAD, OPTIONS"},
		{"GET", "/failover/pools?pool=api", "", 400, `unknown parameter "pool"`, ""},
		{"POST", endpoint + "/drain?for=10m", "", 400, `unknown parameter "for"`, ""},
		{"GET", "/failover/events?limit=1&limit=2", "", 400, "limit: given 2 times", ""},
		{"GET", "/failover/events?limit=0", "", 400, "limit: want a number from 1 to 1000", ""},
		{"GET", "/failover/events?limit=1001", "", 400, "limit: ", ""},
		{"GET", "/failover/events?since=yesterday", "", 400, "since: want the ID of an event, or a time", ""},
		{"GET", "/failover/events?pool=other", "", 404, `no pool "other"`, ""},
		{"GET", "/failover/events?%zz", "", 400, "query: ", ""},
		{"GET", "/failover/report?format=pdf", "", 400, `format: want one of "csv", "html", "json", "md", not "pdf"`, ""},
		{"GET", "/failover/report?from=1h&to=2h", "", 400, "from: must be before to", ""},
		{"GET", "/failover/report?from=noon", "", 400, "from: ", ""},
		{"GET", "/failover/report?to=noon", "", 400, "to: ", ""},
		{"GET", "/failover/report?pool=other", "", 404, `no pool "other"`, ""},
		{"PUT", "/failover/report", "", 405, "PUT", "GET, HEAD, OPTIONS"},
		{"POST", endpoint + "/drain", "{", 400, "body: want a JSON object", ""},
		{"POST", endpoint + "/drain", "null", 400, "body: want a JSON object", ""},
		{"POST", endpoint + "/drain", "[]", 400, "body: want a JSON object", ""},
		{"POST", endpoint + "/drain", "{} {}", 400, "body: want a JSON object", ""},
		{"POST", endpoint + "/drain", `{"for":"soon"}`, 400, "for: want a duration", ""},
		{"POST", endpoint + "/drain", `{"for":600}`, 400, "for: want a duration", ""},
		{"POST", endpoint + "/drain", `{"for":null}`, 400, "for: want a duration", ""},
		{"POST", endpoint + "/drain", `{"for":"0s"}`, 400, "for: must be longer than 0", ""},
		{"POST", endpoint + "/drain", `{"for":"-1m"}`, 400, "for: must be longer than 0", ""},
		{"POST", endpoint + "/drain", `{"for":"9000h"}`, 400, "for: must be at most a year", ""},
		{"POST", endpoint + "/drain", `{"reason":7}`, 400, "reason: want a string, not 7", ""},
		{"POST", endpoint + "/drain", `{"reason":"` + strings.Repeat("x", 501) + `"}`, 400, "reason: must be at most 500 bytes", ""},
		{"POST", endpoint + "/drain", `{"until":"10m"}`, 400, "until: unknown field; known are for, reason and where", ""},
		{"POST", endpoint + "/drain", `{"weight":2}`, 400, "weight: unknown field", ""},
		{"POST", endpoint + "/reset", `{"for":"10m"}`, 400, "for: a reset", ""},
		{"POST", endpoint + "/drain", `{"reason":"` + strings.Repeat("x", 20_000) + `"}`, 413, "body: more than 16384 bytes", ""},
		{"PATCH", endpoint, "", 400, "weight, priority: at least one", ""},
		{"PATCH", endpoint, `{"reason":"why"}`, 400, "weight, priority: at least one", ""},
		{"PATCH", endpoint, `{"weight":-1}`, 400, "weight: must be 0 or more", ""},
		{"PATCH", endpoint, `{"weight":"2"}`, 400, `weight: want a number or null, not \"2\"`, ""},
		{"PATCH", endpoint, `{"weight":1e999}`, 400, "weight: want a number", ""},
		{"PATCH", endpoint, `{"weight":1e300}`, 400, "weight: must be from 0 to 3.4e+38", ""},
		{"PATCH", endpoint, `{"priority":0}`, 400, "priority: must be 1 or more", ""},
		{"PATCH", endpoint, `{"priority":1.5}`, 400, "priority: want a whole number or null, not 1.5", ""},
		{"PATCH", endpoint, `{"priority":null,"for":"1m"}`, 400, "for: needs a weight or a priority to set", ""},
		{"PATCH", endpoint, `{"weigth":1}`, 400, "weigth: unknown field; known are weight, priority, for, reason and where", ""},
	} {
		status, header, body := p.exchange(c.method, c.path, c.body)
		if says := strings.ReplaceAll(body, `\"`, `"`); status != c.status || !strings.Contains(says, strings.ReplaceAll(c.says, `\"`, `"`)) ||
			header.Get("Allow") != c.allow {
			t.Errorf("%s %s %.60s: got %d, Allow %q, %s; want %d, Allow %q, %s",
				c.method, c.path, c.body, status, header.Get("Allow"), body, c.status, c.allow, c.says)
		}
		if status >= 400 {
			var message struct {
				Error string `json:"error"`
			}
			if err := json.Unmarshal([]byte(body), &message); err != nil || message.Error == "" {
				t.Errorf("%s %s: %v: no message in %s", c.method, c.path, err, body)
			}
		}
	}
	for _, name := range []string{"one", "two"} {
		if e := p.endpoint("api", name); e.Operator != nil || e.Override != nil || e.State != "closed" {
			t.Errorf("after refused commands, %s is %+v", name, e)
		}
	}
}

// TestAdminAccessControlIsCaddys sends a POST as a page of another site would.
func TestAdminAccessControlIsCaddys(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	p := startCaddy(t, site("", one, two))
	address := keepPort(t)
	if err := p.loadWith("admin "+address, site("", one, two)); err != nil {
		t.Fatal(err)
	}
	p.adminHost = address
	p.admin = &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", address)
	}}}
	const drain = "/failover/pools/api/endpoints/one/drain"
	for _, header := range [][]string{
		{"Origin", "https://evil.example"},
		{"Origin", "null"},
		{"Sec-Fetch-Mode", "no-cors"},
		{"Sec-Fetch-Mode", "cors", "Referer", "https://evil.example/"},
	} {
		status, _, body := p.exchange(http.MethodPost, drain, "{}", append(header, "Content-Type", "text/plain")...)
		if status != http.StatusForbidden && status != http.StatusBadRequest {
			t.Errorf("%v: got %d %s", header, status, body)
		}
	}
	if status, _, body := p.exchange(http.MethodPost, drain, "{}", "Host", "rebound.example"); status != http.StatusForbidden { // by DNS
		t.Errorf("a foreign Host got %d %s", status, body)
	}
	if e := p.endpoint("api", "one"); e.Draining {
		t.Error("a page of another site has drained an endpoint")
	}
	if status, _, body := p.exchange(http.MethodPost, drain, "{}", "Origin", "http://"+address); status != 200 {
		t.Errorf("the endpoint's own origin got %d %s", status, body)
	}
}

// TestAdminNames checks that names of every kind work in paths, since names default to addresses.
func TestAdminNames(t *testing.T) {
	a := newAPI(t, "api")
	names := []string{a.address, "a/b", "50%", "unix//run/api.sock", "http://a?b#c", "ü n", "drain", "endpoints", `"`}
	var b strings.Builder
	b.WriteString("failover {\n\tname \"p/ool:1 %2F\"\n")
	for _, name := range names {
		fmt.Fprintf(&b, "\tendpoint http://%s {\n\t\tname `%s`\n\t}\n", a.address, name)
	}
	p := startCaddy(t, b.String()+"}")
	pool := url.PathEscape("p/ool:1 %2F")
	for _, name := range names {
		answer := p.order(http.MethodPost, pool+"/endpoints/"+url.PathEscape(name)+"/drain", "")
		if answer.Endpoint != name || answer.Pool != "p/ool:1 %2F" || !answer.Status.Draining || answer.Status.Name != name {
			t.Errorf("%q: %+v", name, answer)
		}
		if e := p.endpoint("p/ool:1 %2F", name); !e.Draining {
			t.Errorf("%q is not drained: %+v", name, e)
		}
	}
	// a colon needs no escape
	if e := p.order(http.MethodPost, pool+"/endpoints/"+a.address+"/enable", ""); e.Status.Draining {
		t.Errorf("%s: still draining", a.address)
	}
}

func TestAdminEvents(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	p := startCaddy(t, site("", one, two))
	before := time.Now()
	stream := p.follow("/failover/events?pool=api")
	p.order(http.MethodPost, "api/endpoints/one/drain", `{"reason":"an upgrade","for":"1h"}`)
	e, s := next(t, stream)
	if e.Kind != "operator" || e.Pool != "api" || e.Endpoint != "one" || e.Reason != "drain" || e.Count != 1 ||
		e.Details["note"] != "an upgrade" || e.Details["until"] == nil || s.name != "" || s.id != fmt.Sprint(e.ID) {
		t.Errorf("drained: %+v, %+v", e, s)
	}
	p.order(http.MethodPost, "api/endpoints/one/enable", "")
	enabled, _ := next(t, stream)
	if enabled.Reason != "enable" || enabled.ID <= e.ID {
		t.Errorf("enabled: %+v", enabled)
	}

	// the list, and what it leaves out
	list := func(query string) (ids []uint64) {
		var list []event
		p.read("/failover/events"+query, &list)
		for _, e := range list {
			ids = append(ids, e.ID)
		}
		return ids
	}
	if ids := list("?pool=api&since=" + url.QueryEscape(before.Format(time.RFC3339Nano))); !slices.Equal(ids, []uint64{e.ID, enabled.ID}) {
		t.Errorf("since the beginning: %v, want %v", ids, []uint64{e.ID, enabled.ID})
	}
	if ids := list(fmt.Sprintf("?since=%d", e.ID)); !slices.Equal(ids, []uint64{enabled.ID}) {
		t.Errorf("since the first: %v", ids)
	}
	if ids := list("?since=1h&limit=1"); !slices.Equal(ids, []uint64{enabled.ID}) {
		t.Errorf("the last hour, one: %v", ids)
	}
	if ids := list(fmt.Sprintf("?since=%d", enabled.ID)); len(ids) != 0 {
		t.Errorf("since the last: %v", ids)
	}
	if ids := list("?since=18446744073709551615"); len(ids) < 2 {
		t.Errorf("since before a restart: %v", ids)
	}

	// a stream resumes where the last one ended
	resumed := p.follow("/failover/events", "Last-Event-ID", fmt.Sprint(e.ID))
	if again, _ := next(t, resumed); again.ID != enabled.ID || again.Reason != "enable" {
		t.Errorf("resumed with %+v", again)
	}
	if status, _, body := p.exchange(http.MethodGet, "/failover/events", "", "Accept", "text/event-stream", "Last-Event-ID", "x"); status != 400 {
		t.Errorf("a bad Last-Event-ID got %d %s", status, body)
	}
}

// TestAdminStreamsOutliveNoReload checks that streams end with their configuration, so that its admin
// endpoint can shut down, and that the next stream misses no event.
func TestAdminStreamsOutliveNoReload(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	p := startCaddy(t, site("", one, two))
	stream := p.follow("/failover/events")
	p.order(http.MethodPost, "api/endpoints/one/drain", "")
	last, _ := next(t, stream)
	for _, options := range []string{"\tbalance least_latency", "\tbalance weighted"} {
		p.reload(site(options, one, two))
		receiveNoMore(t, stream)
		action := "enable"
		if p.endpoint("api", "one").Draining == false {
			action = "drain"
		}
		p.order(http.MethodPost, "api/endpoints/one/"+action, "")
		stream = p.follow("/failover/events", "Last-Event-ID", fmt.Sprint(last.ID))
		if last, _ = next(t, stream); last.Reason != action {
			t.Errorf("after the reload: %+v", last)
		}
	}
	// a configuration that does not load leaves its admin endpoint behind
	if err := p.load("failover {\n\tname api\n\tendpoint http://" + one.address + "\n}\nfailover /x {\n\tname api\n\tbreaker off\n\tendpoint http://" + one.address + "/x\n}"); err == nil {
		t.Fatal("the configuration has loaded")
	}
	stream = p.follow("/failover/events", "Last-Event-ID", fmt.Sprint(last.ID))
	p.order(http.MethodPost, "api/endpoints/two/enable", "")
	if e, _ := next(t, stream); e.Endpoint != "two" {
		t.Errorf("after the failed reload: %+v", e)
	}
}

// TestAdminReports checks the report of calls, one of them rescued, in each format.
func TestAdminReports(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	p := startCaddy(t, site("", one, two))
	p.counts(9, "/")
	one.answer(http.StatusServiceUnavailable)
	p.counts(1, "/")
	for format, c := range map[string]struct{ mediaType, begins string }{
		"md":   {"text/markdown; charset=utf-8", "# "},
		"html": {"text/html; charset=utf-8", "<!"},
		"csv":  {"text/csv; charset=utf-8; header=present", ""},
		"json": {"application/json", "{"},
		"":     {"application/json", "{"},
	} {
		path := "/failover/report?from=1h"
		if format != "" {
			path += "&format=" + format
		}
		status, header, body := p.exchange(http.MethodGet, path, "")
		if status != 200 || header.Get("Content-Type") != c.mediaType || !strings.HasPrefix(body, c.begins) ||
			!strings.Contains(body, "api") || !strings.Contains(body, "two") {
			t.Errorf("%q: %d %s %.200s", format, status, header.Get("Content-Type"), body)
		}
	}
	report := p.report()
	if report.Pool != "api" || report.Total.Calls != 10 || report.Total.Failed != 0 || len(report.Endpoints) != 2 ||
		report.Endpoints[0].Calls != 10 || report.Endpoints[0].Failed != 1 || report.Endpoints[1].Calls != 1 ||
		!slices.Equal(report.Failovers, []failover{{"one", "two", 1}}) {
		t.Errorf("got %+v", report)
	}
	p.reload(site("", one, two) + "\nfailover /b {\n\tname b\n\tendpoint http://" + two.address + "\n}")
	if status, _, body := p.exchange(http.MethodGet, "/failover/report", ""); status != 400 || !strings.Contains(body, "pool: which one?") {
		t.Errorf("with two pools: %d %s", status, body)
	}
}
