package failover

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apifailover/caddy-failover/internal/api"
	"github.com/apifailover/caddy-failover/internal/command"
	"github.com/apifailover/caddy-failover/internal/event"
	"github.com/apifailover/caddy-failover/internal/sla"
)

// An admin is the admin endpoint of a Caddy that runs in this process.
type admin struct {
	t       testing.TB
	address string
	client  *http.Client
}

// freeAddress is one at which nobody listens.
func freeAddress(t testing.TB) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// startWithAdmin runs Caddy with a site and an admin endpoint.
func startWithAdmin(t testing.TB, site string) (*proxy, *admin) {
	t.Helper()
	address := freeAddress(t)
	// without keep-alive, since a reload replaces the endpoint
	a := &admin{t: t, address: address, client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}}
	return startCaddyWithAdmin(t, site, address), a
}

// request makes a request of a path, which is sent as it is.
func (a *admin) request(method, path, body string, header ...string) *http.Request {
	a.t.Helper()
	r, err := http.NewRequestWithContext(a.t.Context(), method, "http://"+a.address+path, strings.NewReader(body))
	if err != nil {
		a.t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return r
}

// do makes a request until it is answered: the admin endpoint that a reload
// replaces drops connections that come while it shuts down.
func (a *admin) do(method, path, body string, header ...string) *http.Response {
	a.t.Helper()
	for tries := 0; ; tries++ {
		resp, err := a.client.Do(a.request(method, path, body, header...))
		if err == nil {
			return resp
		}
		if tries == 5 || !command.Dropped(err) {
			a.t.Fatalf("%s %s: %v", method, path, err)
		}
	}
}

// send returns status, headers and body of an answer.
func (a *admin) send(method, path, body string, header ...string) (int, http.Header, string) {
	a.t.Helper()
	resp := a.do(method, path, body, header...)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		a.t.Fatalf("%s %s: reading the answer: %v", method, path, err)
	}
	return resp.StatusCode, resp.Header, string(text)
}

// read decodes the answer to a GET, which must be 200.
func (a *admin) read(path string, into any) {
	a.t.Helper()
	status, _, body := a.send(http.MethodGet, path, "")
	if status != http.StatusOK {
		a.t.Fatalf("GET %s: %d %s", path, status, body)
	}
	if err := json.Unmarshal([]byte(body), into); err != nil {
		a.t.Fatalf("GET %s: %v in %s", path, err, body)
	}
}

// order sends a command, which must succeed.
func (a *admin) order(method, path, body string) api.OperatorAnswer {
	a.t.Helper()
	status, _, text := a.send(method, "/failover/pools/"+path, body)
	if status != http.StatusOK {
		a.t.Fatalf("%s %s %s: %d %s", method, path, body, status, text)
	}
	var answer api.OperatorAnswer
	if err := json.Unmarshal([]byte(text), &answer); err != nil {
		a.t.Fatalf("%s %s: %v in %s", method, path, err, text)
	}
	return answer
}

func (a *admin) endpoint(pool, name string) api.EndpointStatus {
	a.t.Helper()
	var status api.EndpointStatus
	a.read("/failover/pools/"+url.PathEscape(pool)+"/endpoints/"+url.PathEscape(name), &status)
	return status
}

func TestAdminShowsPools(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	p, a := startWithAdmin(t, site("", one, two))
	p.get("/")
	var all []api.PoolStatus
	a.read("/failover/pools", &all)
	if len(all) != 1 || all[0].Name != "api" || len(all[0].Endpoints) != 2 || all[0].Endpoints[0].Successes != 1 {
		t.Errorf("pools: %+v", all)
	}
	var pool api.PoolStatus
	a.read("/failover/pools/api", &pool)
	if pool.Name != "api" || len(pool.Endpoints) != 2 {
		t.Errorf("pool: %+v", pool)
	}
	if e := a.endpoint("api", "two"); e.Name != "two" || e.Priority != 2 || e.Address != two.address {
		t.Errorf("endpoint: %+v", e)
	}
	status, header, _ := a.send(http.MethodHead, "/failover/pools", "")
	if status != 200 || header.Get("Content-Type") != "application/json" || header.Get("Cache-Control") != "no-store" {
		t.Errorf("HEAD: %d %v", status, header)
	}
}

func TestAdminWithoutPools(t *testing.T) {
	_, a := startWithAdmin(t, "respond hello")
	status, _, body := a.send(http.MethodGet, "/failover/pools", "")
	if status != 200 || body != "[]\n" {
		t.Errorf("pools: %d %s", status, body)
	}
	status, _, body = a.send(http.MethodGet, "/failover/pools/api", "")
	if status != 404 || !strings.Contains(body, `there is no pool \"api\"; there are none`) {
		t.Errorf("pool: %d %s", status, body)
	}
}

// TestAdminRefuses goes through what can be wrong with a request. An answer
// names what is wrong.
func TestAdminRefuses(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	_, a := startWithAdmin(t, site("", one, two))
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
		{"POST", endpoint + "/drain", `{"until":"10m"}`, 400, "until: unknown field; known are for and reason", ""},
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
		{"PATCH", endpoint, `{"weigth":1}`, 400, "weigth: unknown field; known are weight, priority, for and reason", ""},
	} {
		status, header, body := a.send(c.method, c.path, c.body)
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
		if e := a.endpoint("api", name); e.Operator != nil || e.Override != nil || e.State != "closed" {
			t.Errorf("after refused commands, %s is %+v", name, e)
		}
	}
}

// TestAdminAccessControlIsCaddys posts as a page of another site would.
func TestAdminAccessControlIsCaddys(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	_, a := startWithAdmin(t, site("", one, two))
	const drain = "/failover/pools/api/endpoints/one/drain"
	for _, header := range [][]string{
		{"Origin", "https://evil.example"},
		{"Origin", "null"},
		{"Sec-Fetch-Mode", "no-cors"},
		{"Sec-Fetch-Mode", "cors", "Referer", "https://evil.example/"},
	} {
		status, _, body := a.send(http.MethodPost, drain, "{}", append(header, "Content-Type", "text/plain")...)
		if status != http.StatusForbidden && status != http.StatusBadRequest {
			t.Errorf("%v: got %d %s", header, status, body)
		}
	}
	r := a.request(http.MethodPost, drain, "{}")
	r.Host = "rebound.example" // by DNS
	resp, err := a.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusForbidden {
		t.Errorf("a foreign Host got %d", resp.StatusCode)
	}
	if e := a.endpoint("api", "one"); e.Draining {
		t.Error("a page of another site has drained an endpoint")
	}
	if status, _, body := a.send(http.MethodPost, drain, "{}", "Origin", "http://"+a.address); status != 200 {
		t.Errorf("the endpoint's own origin got %d %s", status, body)
	}
}

// TestAdminNames wants names of every kind to work in paths: names default to
// addresses.
func TestAdminNames(t *testing.T) {
	api := newAPI(t, "api")
	names := []string{api.address, "a/b", "50%", "unix//run/api.sock", "http://a?b#c", "ü n", "drain", "endpoints", `"`}
	var b strings.Builder
	b.WriteString("failover {\n\tname \"p/ool:1 %2F\"\n")
	for _, name := range names {
		fmt.Fprintf(&b, "\tendpoint http://%s {\n\t\tname `%s`\n\t}\n", api.address, name)
	}
	_, a := startWithAdmin(t, b.String()+"}")
	pool := url.PathEscape("p/ool:1 %2F")
	for _, name := range names {
		answer := a.order(http.MethodPost, pool+"/endpoints/"+url.PathEscape(name)+"/drain", "")
		if answer.Endpoint != name || answer.Pool != "p/ool:1 %2F" || !answer.Status.Draining || answer.Status.Name != name {
			t.Errorf("%q: %+v", name, answer)
		}
		if e := a.endpoint("p/ool:1 %2F", name); !e.Draining {
			t.Errorf("%q is not drained: %+v", name, e)
		}
	}
	// a colon needs no escape
	if e := a.order(http.MethodPost, pool+"/endpoints/"+api.address+"/enable", ""); e.Status.Draining {
		t.Errorf("%s: still draining", api.address)
	}
}

// A streamed event is one of a stream of server-sent events.
type streamed struct{ name, id, data string }

// follow reads a stream of events until the test ends or the stream does.
func (a *admin) follow(path string, header ...string) <-chan streamed {
	a.t.Helper()
	resp := a.do(http.MethodGet, path, "", append(header, "Accept", "text/event-stream")...)
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" {
		a.t.Fatalf("GET %s: %d %s", path, resp.StatusCode, resp.Header.Get("Content-Type"))
	}
	out := make(chan streamed, event.Kept)
	go func() {
		defer close(out)
		defer resp.Body.Close()
		var e streamed
		for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
			name, value, _ := strings.Cut(lines.Text(), ": ")
			switch name {
			case "event":
				e.name = value
			case "id":
				e.id = value
			case "data":
				e.data = value
			case "":
				if e.data != "" {
					out <- e
				}
				e = streamed{}
			}
		}
	}()
	return out
}

// next is the next event of a stream.
func next(t testing.TB, stream <-chan streamed) (event.Event, streamed) {
	t.Helper()
	select {
	case s, ok := <-stream:
		if !ok {
			t.Fatal("the stream has ended")
		}
		var e event.Event
		if err := json.Unmarshal([]byte(s.data), &e); err != nil {
			t.Fatalf("%v in %s", err, s.data)
		}
		return e, s
	case <-time.After(5 * time.Second):
		t.Fatal("no event came")
	}
	return event.Event{}, streamed{}
}

func TestAdminEvents(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	_, a := startWithAdmin(t, site("", one, two))
	before := time.Now()
	stream := a.follow("/failover/events?pool=api")
	a.order(http.MethodPost, "api/endpoints/one/drain", `{"reason":"an upgrade","for":"1h"}`)
	e, s := next(t, stream)
	if e.Kind != "operator" || e.Pool != "api" || e.Endpoint != "one" || e.Reason != "drain" || e.Count != 1 ||
		e.Details["note"] != "an upgrade" || e.Details["until"] == nil || s.name != "" || s.id != fmt.Sprint(e.ID) {
		t.Errorf("drained: %+v, %+v", e, s)
	}
	a.order(http.MethodPost, "api/endpoints/one/enable", "")
	enabled, _ := next(t, stream)
	if enabled.Reason != "enable" || enabled.ID <= e.ID {
		t.Errorf("enabled: %+v", enabled)
	}

	// the list, and what it leaves out
	list := func(query string) (ids []uint64) {
		var list []event.Event
		a.read("/failover/events"+query, &list)
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
	resumed := a.follow("/failover/events", "Last-Event-ID", fmt.Sprint(e.ID))
	if again, _ := next(t, resumed); again.ID != enabled.ID || again.Reason != "enable" {
		t.Errorf("resumed with %+v", again)
	}
	if status, _, body := a.send(http.MethodGet, "/failover/events", "", "Accept", "text/event-stream", "Last-Event-ID", "x"); status != 400 {
		t.Errorf("a bad Last-Event-ID got %d %s", status, body)
	}
}

// TestAdminStreamsOutliveNoReload ends streams with the configuration, so that
// the admin endpoint it replaces can shut down, and loses nothing over it.
func TestAdminStreamsOutliveNoReload(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	p, a := startWithAdmin(t, site("", one, two))
	stream := a.follow("/failover/events")
	a.order(http.MethodPost, "api/endpoints/one/drain", "")
	last, _ := next(t, stream)
	for _, options := range []string{"\tbalance least_latency", "\tbalance weighted"} {
		if err := p.load(site(options, one, two)); err != nil {
			t.Fatal(err)
		}
		select {
		case s, ok := <-stream:
			if ok {
				t.Fatalf("got %+v", s)
			}
		case <-time.After(5 * time.Second):
			t.Fatal("the stream goes on after the reload")
		}
		action := "enable"
		if a.endpoint("api", "one").Draining == false {
			action = "drain"
		}
		a.order(http.MethodPost, "api/endpoints/one/"+action, "")
		stream = a.follow("/failover/events", "Last-Event-ID", fmt.Sprint(last.ID))
		if last, _ = next(t, stream); last.Reason != action {
			t.Errorf("after the reload: %+v", last)
		}
	}
	// a configuration that does not load leaves its admin endpoint behind
	if err := p.load("failover {\n\tname api\n\tendpoint http://" + one.address + "\n}\nfailover /x {\n\tname api\n\tbreaker off\n\tendpoint http://" + one.address + "/x\n}"); err == nil {
		t.Fatal("the configuration has loaded")
	}
	stream = a.follow("/failover/events", "Last-Event-ID", fmt.Sprint(last.ID))
	a.order(http.MethodPost, "api/endpoints/two/enable", "")
	if e, _ := next(t, stream); e.Endpoint != "two" {
		t.Errorf("after the failed reload: %+v", e)
	}
}

// TestAdminDropsSlowReaders lets a reader sleep until the stream gives it up.
// When it wakes it is told, and comes back for what it has missed.
func TestAdminDropsSlowReaders(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	_, a := startWithAdmin(t, site("", one, two))
	subscribers := func() []*event.Subscription {
		event.Latest.Mu.Lock()
		defer event.Latest.Mu.Unlock()
		return slices.Collect(maps.Keys(event.Latest.Subscribers))
	}
	before := subscribers()
	conn, err := net.Dial("tcp", a.address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := fmt.Fprintf(conn, "GET /failover/events HTTP/1.1\r\nHost: %s\r\nAccept: text/event-stream\r\n\r\n", a.address); err != nil {
		t.Fatal(err)
	}
	var reader *event.Subscription
	eventually(t, 5*time.Second, "the stream has begun", func() bool {
		for _, s := range subscribers() {
			if !slices.Contains(before, s) {
				reader = s
			}
		}
		return reader != nil
	})
	flood := event.Event{Kind: event.Anomaly, Pool: "flood", Count: 1, Reason: strings.Repeat("x", 32<<10)}
	var last event.Event
	eventually(t, 20*time.Second, "the reader is given up", func() bool {
		for range 100 {
			last = event.Latest.Add(flood)
		}
		return reader.TooSlow()
	})

	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	var heard, told command.Message
	err = command.Messages(resp.Body, func(m command.Message) bool {
		if m.Name == "" {
			heard = m
		}
		told = m
		return true
	})
	if err != nil || told.Name != "too_slow" || !strings.Contains(told.Data, "Last-Event-ID") {
		t.Fatalf("the stream ended with %q %.100s, %v", told.Name, told.Data, err)
	}
	stream := a.follow("/failover/events", "Last-Event-ID", heard.ID)
	e, s := next(t, stream)
	if s.name == "gap" {
		e, s = next(t, stream)
	}
	if e.Pool != "flood" || s.id <= heard.ID && len(s.id) == len(heard.ID) {
		t.Errorf("resumed after %s with %s of %q", heard.ID, s.id, e.Pool)
	}
	for e.ID < last.ID {
		e, _ = next(t, stream)
	}
}

// TestAdminTellsOfGaps resumes after an event that is forgotten.
func TestAdminTellsOfGaps(t *testing.T) {
	_, a := startWithAdmin(t, "respond hello")
	first := event.Latest.Add(event.Event{Kind: event.Anomaly, Pool: "gaps", Count: 1})
	for range event.Kept + 10 {
		event.Latest.Add(event.Event{Kind: event.Anomaly, Pool: "gaps", Count: 1})
	}
	stream := a.follow("/failover/events?pool=gaps", "Last-Event-ID", fmt.Sprint(first.ID))
	if _, s := next(t, stream); s.name != "gap" || s.data != `{"missed":10}` {
		t.Errorf("got %+v", s)
	}
	if e, s := next(t, stream); s.name != "" || e.ID != first.ID+11 {
		t.Errorf("after the gap: %+v", e)
	}
}

// TestAdminReports asks for a report of calls, one of which was rescued, in each
// format.
func TestAdminReports(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	p, a := startWithAdmin(t, site("", one, two))
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
		status, header, body := a.send(http.MethodGet, path, "")
		if status != 200 || header.Get("Content-Type") != c.mediaType || !strings.HasPrefix(body, c.begins) ||
			!strings.Contains(body, "api") || !strings.Contains(body, "two") {
			t.Errorf("%q: %d %s %.200s", format, status, header.Get("Content-Type"), body)
		}
	}
	var report sla.Report
	a.read("/failover/report?pool=api&from=1h", &report)
	if report.Pool != "api" || report.Total.Calls != 10 || report.Total.Failed != 0 || len(report.Endpoints) != 2 ||
		report.Endpoints[0].Calls != 10 || report.Endpoints[0].Failed != 1 || report.Endpoints[1].Calls != 1 ||
		!slices.Equal(report.Failovers, []sla.Failover{{From: "one", To: "two", Count: 1}}) {
		t.Errorf("got %+v", report)
	}
	if err := p.load(site("", one, two) + "\nfailover /b {\n\tname b\n\tendpoint http://" + two.address + "\n}"); err != nil {
		t.Fatal(err)
	}
	if status, _, body := a.send(http.MethodGet, "/failover/report", ""); status != 400 || !strings.Contains(body, "pool: which one?") {
		t.Errorf("with two pools: %d %s", status, body)
	}
}
