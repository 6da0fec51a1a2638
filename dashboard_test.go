package failover

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/caddyconfig"

	"github.com/apifailover/caddy-failover/internal/api"
	"github.com/apifailover/caddy-failover/internal/ops"
	"github.com/apifailover/caddy-failover/internal/pool"
	"github.com/apifailover/caddy-failover/internal/sla"
)

func TestDashboardDirective(t *testing.T) {
	for _, c := range []struct{ line, path, matched string }{
		{"failover_dashboard", "", `["/failover","/failover/*"]`},
		{"failover_dashboard /ops/llm", "/ops/llm", `["/ops/llm","/ops/llm/*"]`},
		{"failover_dashboard /", "/", ""},
	} {
		config := string(adapt(t, "http://x {\n\trespond all\n\t"+c.line+"\n}"))
		handler := `{"handler":"failover_dashboard"}`
		if c.path != "" {
			handler = `{"handler":"failover_dashboard","path":"` + c.path + `"}`
		}
		at, answers := strings.Index(config, handler), strings.Index(config, `"static_response"`)
		if at < 0 || answers < at {
			t.Errorf("%s: the handler is not before respond: %s", c.line, config)
		}
		if c.matched != "" && !strings.Contains(config, handler+`],"match":[{"path":`+c.matched) {
			t.Errorf("%s: matches otherwise: %s", c.line, config)
		}
	}
	for line, want := range map[string]string{
		"failover_dashboard failover":    "dashboard path \"failover\": must begin with a slash, at Caddyfile:2",
		"failover_dashboard /a/":         "dashboard path \"/a/\": write it as /a, at Caddyfile:2",
		"failover_dashboard /a/*":        "must be a plain path",
		"failover_dashboard @lan":        "takes a path, no matcher: @lan",
		"failover_dashboard /a /b":       "wrong argument count",
		"failover_dashboard /a {\n x\n}": "failover_dashboard has no block",
	} {
		_, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte("http://x {\n\t"+line+"\n}"), map[string]any{"filename": "Caddyfile"})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", line, err, want)
		}
	}
}

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

// until reads events until one is what is looked for.
func (w *watcher) until(what string, is func(name, id, data string) bool) {
	w.t.Helper()
	deadline := time.AfterFunc(20*time.Second, func() { w.body.Close() })
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
		var snapshot struct{ Pools []api.PoolStatus }
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
	load := p.startLoad(100, http.MethodGet, "/", "")
	defer load.stop()
	var lastID string
	w.until("the event that one has opened", func(name, id, data string) bool {
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
	again.until("the event that one recovers", func(name, id, data string) bool {
		if id == lastID {
			t.Errorf("event %s came again", id)
		}
		return name == "event" && strings.Contains(data, `"kind":"breaker_recovering"`)
	})
	again.untilState("one", "closed")
	again.until("the minutes of one", func(name, _, data string) bool {
		if name != "history" {
			return false
		}
		var h ops.Minutes
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
		if status, _ := p.get(path); status != http.StatusUnauthorized {
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
		if _, body := p.get(path); body != "the site" {
			t.Errorf("%s: %s", path, body)
		}
	}
	status, body := p.get("/failover")
	if status != http.StatusOK || !strings.Contains(body, `content="failover/stream"`) {
		t.Errorf("the page: %d %s", status, body)
	}
	// encode must leave the stream alone, or it would hold it back
	w := p.watchDashboard(t, "Accept-Encoding", "zstd")
	w.until("a snapshot", func(name, _, _ string) bool { return name == "snapshot" })
}

// A reload waits for the requests of the old configuration: streams must end.
func TestReloadEndsTheDashboardsStreams(t *testing.T) {
	site := "failover_dashboard\nrespond first"
	p := startCaddy(t, site)
	var watchers []*watcher
	for range 20 {
		w := p.watchDashboard(t)
		w.until("the beginning", func(name, _, _ string) bool { return name == "ready" })
		watchers = append(watchers, w)
	}
	if err := p.load(strings.Replace(site, "first", "second", 1)); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	for _, w := range watchers {
		if _, err := io.Copy(io.Discard, w.reader); err != nil {
			t.Errorf("a stream did not end well: %v", err)
		}
	}
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("the streams of the old configuration lasted for %v", took)
	}
	p.watchDashboard(t).until("a snapshot", func(name, _, _ string) bool { return name == "snapshot" })
	p.client.CloseIdleConnections()
	if err := p.load("respond third"); err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, "no goroutine of the feed", func() bool {
		stacks := make([]byte, 1<<20)
		return !strings.Contains(string(stacks[:runtime.Stack(stacks, true)]), "web.(*Feed)")
	})
}

// What a dashboard asks of a pool of 50 endpoints: each second how they stand,
// every 10 seconds their last two minutes, and for the first viewer in a while
// their last hour.
func BenchmarkDashboardOf50Endpoints(b *testing.B) {
	directive := "failover {\n name crowd\n"
	for i := range 50 {
		directive += fmt.Sprintf(" endpoint http://e%d.test {\n priority 1\n }\n", i)
	}
	h, end, err := provisioned(b, handlerJSON(b, directive+"}"))
	if err != nil {
		b.Fatal(err)
	}
	defer end()
	now := time.Now()
	for _, u := range h.Upstreams {
		series := runningPool(b, "crowd").History.Endpoint(u.Dial)
		for second := range 3600 {
			at := now.Add(time.Duration(second-3600) * time.Second)
			var one sla.Batch
			one.Add(sla.Outcome{Latency: time.Duration(second%97+1) * time.Millisecond})
			series.RecordBatch(at, &one)
		}
	}
	encode := func(b *testing.B, what func() any) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := json.Marshal(what()); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.Run("snapshot", func(b *testing.B) { encode(b, func() any { return pool.Status(now) }) })
	b.Run("minutes", func(b *testing.B) { encode(b, func() any { return ops.LastMinutes(now, now.Add(-2*time.Minute)) }) })
	b.Run("hour", func(b *testing.B) { encode(b, func() any { return ops.LastMinutes(now, now.Add(-time.Hour)) }) })
}
