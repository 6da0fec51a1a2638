package e2e

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"
)

// A watcher reads a dashboard's stream.
type watcher struct {
	t      *testing.T
	body   io.ReadCloser
	reader *bufio.Reader
}

func (p *proxy) watchDashboard(t *testing.T, header ...string) *watcher {
	t.Helper()
	resp, err := p.do(http.MethodGet, "/failover/stream", nil, header...)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("the stream is %s, %s", resp.Status, resp.Header.Get("Content-Type"))
	}
	t.Cleanup(func() { resp.Body.Close() })
	return &watcher{t, resp.Body, bufio.NewReader(resp.Body)}
}

// until reads events until is returns true for one. what says for which event it waits.
func (w *watcher) until(what string, is func(name, id, data string) bool) {
	w.t.Helper()
	deadline := time.AfterFunc(patience, func() { w.body.Close() })
	defer deadline.Stop()
	var name, id, data string
	for {
		line, err := w.reader.ReadString('\n')
		if err != nil {
			w.t.Fatalf("waiting for %s: %v", what, err)
		}
		field, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch field {
		case "event":
			name = value
		case "id":
			id = value
		case "data":
			data = value
		case "":
			if is(name, id, data) {
				return
			}
			name, id, data = "", "", ""
		}
	}
}

func (w *watcher) untilState(endpoint, state string) {
	w.t.Helper()
	w.until(endpoint+" to be "+state, func(name, _, data string) bool {
		if name != "snapshot" {
			return false
		}
		var snapshot struct{ Pools []poolStatus }
		if err := json.Unmarshal([]byte(data), &snapshot); err != nil {
			w.t.Fatal(err)
		}
		for _, e := range snapshot.Pools[0].Endpoints {
			if e.Name == endpoint {
				return e.State == state
			}
		}
		return false
	})
}

func TestDashboardFollowsAnOutage(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	p := startCaddy(t, `
		failover_dashboard
		failover {
			name api
			endpoint http://`+one.address+` {
				name one
			}
			endpoint http://user:s3cret@`+two.address+` {
				name two
				header X-Api-Key k3y
			}
			breaker {
				open_for 1s
				step 100ms
			}
		}`)
	w := p.watchDashboard(t)
	w.untilState("one", "closed")
	one.answer(http.StatusServiceUnavailable)
	load := p.startLoad(100, http.MethodGet, "")
	defer load.stop()
	var lastID string
	w.until("breaker_opened of one", func(name, id, data string) bool {
		if strings.Contains(data, "s3cret") || strings.Contains(data, "k3y") {
			t.Fatalf("a secret is shown: %s", data)
		}
		if name == "event" {
			lastID = id
		}
		return name == "event" && strings.Contains(data, `"kind":"breaker_opened"`) && strings.Contains(data, `"endpoint":"one"`)
	})
	w.untilState("one", "open")
	w.body.Close()
	one.behave(one.fine)

	again := p.watchDashboard(t, "Last-Event-ID", lastID)
	again.until("breaker_recovering", func(name, id, data string) bool {
		if id == lastID {
			t.Errorf("event %s was sent twice", id)
		}
		return name == "event" && strings.Contains(data, `"kind":"breaker_recovering"`)
	})
	again.untilState("one", "closed")
	again.until("the history of one", func(name, _, data string) bool {
		if name != "history" {
			return false
		}
		var h struct {
			Pools map[string]map[string]*struct {
				Calls, Failures []uint64
				P95             []float64
			}
		}
		if err := json.Unmarshal([]byte(data), &h); err != nil {
			t.Fatal(err)
		}
		c := h.Pools["api"]["one"]
		return c != nil && c.Calls[len(c.Calls)-1] > 0 && len(c.Failures) == len(c.Calls) && len(c.P95) == len(c.Calls)
	})
}

func TestDashboardStandsBehindTheSitesAuthentication(t *testing.T) {
	p := startCaddy(t, `
		failover_dashboard
		basic_auth {
			ops $2a$14$Zkx19XLiW6VYouLHR5NmfOFU0z2GTNmpkT/5qqR7hx4IjWJPDhjvG
		}`)
	for _, path := range []string{"/failover", "/failover/stream", "/failover/x/app.js"} {
		if status := p.call(http.MethodGet, path, "").status; status != http.StatusUnauthorized {
			t.Errorf("%s without a password: %d", path, status)
		}
	}
}

func TestDashboardLeavesOtherPathsAlone(t *testing.T) {
	p := startCaddy(t, `
		failover_dashboard
		encode gzip
		respond "the site"`)
	for _, path := range []string{"/", "/failovers", "/x/failover"} {
		if got := p.call(http.MethodGet, path, ""); got.body != "the site" {
			t.Errorf("%s: %s", path, got.body)
		}
	}
	got := p.call(http.MethodGet, "/failover", "")
	if got.status != http.StatusOK || !strings.Contains(got.body, `content="failover/stream"`) {
		t.Errorf("the page: %d %s", got.status, got.body)
	}
	// encode must not compress the stream, because it would buffer it
	w := p.watchDashboard(t, "Accept-Encoding", "zstd")
	w.until("a snapshot", func(name, _, _ string) bool { return name == "snapshot" })
}

// TestReloadEndsTheDashboardsStreams checks that streams end at a reload, which waits for the old configuration's
// requests.
func TestReloadEndsTheDashboardsStreams(t *testing.T) {
	site := "failover_dashboard\nrespond first"
	p := startCaddy(t, site)
	var watchers []*watcher
	for range 20 {
		w := p.watchDashboard(t)
		w.until("ready", func(name, _, _ string) bool { return name == "ready" })
		watchers = append(watchers, w)
	}
	p.reload(strings.Replace(site, "first", "second", 1))
	for _, w := range watchers {
		if _, err := io.Copy(io.Discard, w.reader); err != nil {
			t.Errorf("a stream ended with an error: %v", err)
		}
	}
	p.watchDashboard(t).until("a snapshot", func(name, _, _ string) bool { return name == "snapshot" })
	p.client.CloseIdleConnections()
	p.reload("respond third")
	eventually(t, "the feed has no goroutine left", func() bool {
		stacks := make([]byte, 1<<20)
		return !strings.Contains(string(stacks[:runtime.Stack(stacks, true)]), "web.(*Feed)")
	})
}

// TestOperatorActionsOfTheDashboard checks that the page's own operator actions work, and that requests that may come
// from elsewhere are refused.
func TestOperatorActionsOfTheDashboard(t *testing.T) {
	one := newAPI(t, "one")
	const (
		password = "Basic b3BzOmh1bnRlcjI=" // ops:hunter2
		login    = "basic_auth /failover* {\n\tops $2a$04$ZyszADj.4aCs0xVZe.eLZegJRFBO0Z/ljrvkaDmS28JlmVAvptzY6\n}\n"
		levers   = "failover_dashboard {\n\tlevers\n}\n"
	)
	p := startCaddy(t, login+levers+site("", one))
	act := func(method, body string, header ...string) (status int) {
		t.Helper()
		all := append([]string{"Authorization", password, "Origin", "http://api.test", "Sec-Fetch-Site", "same-origin", "Content-Type", "application/json", "Failover-Action", "1"}, header...)
		return p.call(method, "/failover/actions", body, all...).status
	}
	const drain = `{"pool": "api", "endpoint": "one", "action": "drain", "fields": {"reason": "new driver"}}`
	for what, c := range map[string]struct {
		method, body string
		header       []string
		want         int
	}{
		"no password":           {"POST", drain, []string{"Authorization", ""}, 401},
		"another site":          {"POST", drain, []string{"Origin", "http://evil.test", "Sec-Fetch-Site", "cross-site"}, 403},
		"no Origin":             {"POST", drain, []string{"Origin", ""}, 403},
		"a form":                {"POST", drain, []string{"Content-Type", "text/plain"}, 403},
		"no header of the page": {"POST", drain, []string{"Failover-Action", ""}, 403},
		"GET":                   {"GET", "", nil, 405},
		"no reason":             {"POST", `{"pool": "api", "endpoint": "one", "action": "drain"}`, nil, 400},
	} {
		if got := act(c.method, c.body, c.header...); got != c.want {
			t.Errorf("%s: %d, want %d", what, got, c.want)
		}
	}
	if e := p.endpoint("api", "one"); e.Draining {
		t.Fatal("a refused request has drained the endpoint")
	}
	if got := act("POST", drain); got != http.StatusOK {
		t.Fatalf("the page's own request: %d", got)
	}
	if e := p.endpoint("api", "one"); !e.Draining || e.Operator == nil || e.Operator.Reason != "new driver (ops)" {
		t.Errorf("the endpoint is %+v", e)
	}
	if got := act("POST", strings.Replace(drain, "drain", "undo", 1)); got != http.StatusOK || p.endpoint("api", "one").Draining {
		t.Errorf("undo: %d", got)
	}

	// actions need a login and the option levers
	p.reload(levers + site("", one))
	if got := act("POST", drain); got != http.StatusForbidden {
		t.Errorf("without a login: %d", got)
	}
	p.reload("failover_dashboard\n" + site("", one))
	if got := act("POST", drain); got != http.StatusMethodNotAllowed || p.endpoint("api", "one").Draining {
		t.Errorf("without levers: %d", got)
	}
}

// TestDetailsAndReportOfTheDashboard checks the details of an endpoint that failed and the report, and that neither
// shows a credential.
func TestDetailsAndReportOfTheDashboard(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	one.answer(http.StatusServiceUnavailable)
	p := startCaddy(t, "failover_dashboard\n"+edited("api", "sla {\n\t\tavailability 99%\n\t}", []*api{one, two}, "header Authorization \"Bearer t0ken\""))
	for range 10 {
		p.call(http.MethodPost, "/v1/chat?key=s3cret", "{}")
	}
	var detail struct {
		Failures []struct{ What, Method, Path, Outcome string }
		Spans    map[string]struct{ Calls []uint64 }
	}
	var text string
	eventually(t, "the failures of one", func() bool {
		text = p.call(http.MethodGet, "/failover/detail?pool=api&endpoint=one", "").body
		if err := json.Unmarshal([]byte(text), &detail); err != nil {
			t.Fatal(err, text)
		}
		return len(detail.Failures) > 0
	})
	if f := detail.Failures[0]; f.What != "503" || f.Method != "POST" || f.Path != "/v1/chat" || f.Outcome != "status" || len(detail.Spans) != 3 {
		t.Errorf("the detail is %s", text)
	}
	report := p.call(http.MethodGet, "/failover/report?pool=api&lang=zh-CN", "")
	if report.status != http.StatusOK || !strings.Contains(report.body, "SLA 报告：api") {
		t.Errorf("the report is %d %.300s", report.status, report.body)
	}
	for _, secret := range []string{"s3cret", "t0ken"} {
		if strings.Contains(text+report.body, secret) {
			t.Errorf("%s is shown", secret)
		}
	}
	for path, want := range map[string]int{"detail?pool=x": 404, "detail": 404, "detail?pool=api&endpoint=x": 404, "report?pool=x": 404, "report?pool=api&lang=tlh": 400} {
		if got := p.call(http.MethodGet, "/failover/"+path, "").status; got != want {
			t.Errorf("%s: %d, want %d", path, got, want)
		}
	}
}
