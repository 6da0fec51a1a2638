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

// until reads events until one is what is looked for.
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
	p.reload(strings.Replace(site, "first", "second", 1))
	for _, w := range watchers {
		if _, err := io.Copy(io.Discard, w.reader); err != nil {
			t.Errorf("a stream did not end well: %v", err)
		}
	}
	p.watchDashboard(t).until("a snapshot", func(name, _, _ string) bool { return name == "snapshot" })
	p.client.CloseIdleConnections()
	p.reload("respond third")
	eventually(t, "no goroutine of the feed", func() bool {
		stacks := make([]byte, 1<<20)
		return !strings.Contains(string(stacks[:runtime.Stack(stacks, true)]), "web.(*Feed)")
	})
}
