package notify_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/apifailover/caddy-failover"
	"github.com/apifailover/caddy-failover/notify"
)

// A proxy is a Caddy in this process. Its site listens on a Unix socket.
type proxy struct {
	t      *testing.T
	dir    string
	closed string // an address that refuses connections
}

func newProxy(t *testing.T) *proxy {
	dir, err := os.MkdirTemp("", "notify") // the paths of sockets must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := caddy.Stop(); err != nil {
			t.Error(err)
		}
		os.RemoveAll(dir)
	})
	return &proxy{t, dir, "127.0.0.1:1"} // a port that no other test may get
}

// load loads a configuration with these options in the global block, and a pool whose only endpoint
// refuses connections.
func (p *proxy) load(options string) error {
	p.t.Helper()
	config, err := adapt(fmt.Sprintf(`{
	admin off
	persist_config off
	auto_https off
	storage file_system %s
	log {
		output file %s
		format json
		level DEBUG
	}
	failover {
		%s
	}
}
http://api.test {
	bind unix/%s
	failover {
		name llm
		endpoint http://%s
		breaker {
			consecutive_failures 1
			open_for 60s
		}
	}
}`, filepath.Join(p.dir, "stored"), p.log(), options, filepath.Join(p.dir, "site"), p.closed))
	if err != nil {
		return err
	}
	return caddy.Load(config, true)
}

func adapt(text string) ([]byte, error) {
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(text), map[string]any{"filename": "Caddyfile"})
	return config, err
}

func (p *proxy) log() string { return filepath.Join(p.dir, "log") }

// logged waits until the log contains want, and returns the log.
func (p *proxy) logged(want string) string {
	p.t.Helper()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for {
		text, err := os.ReadFile(p.log())
		if err != nil {
			p.t.Fatal(err)
		}
		if strings.Contains(string(text), want) {
			return string(text)
		}
		<-ticker.C
	}
}

// get sends a request to the site.
func (p *proxy) get() {
	p.t.Helper()
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(p.dir, "site"))
	}, DisableKeepAlives: true}}
	resp, err := client.Get("http://api.test/")
	if err != nil {
		p.t.Fatal(err)
	}
	resp.Body.Close()
}

// TestAnOutageIsTold checks that Caddy sends a notice of an outage, does not wait for a receiver that
// hangs when it reloads or stops, and does not log the URL.
func TestAnOutageIsTold(t *testing.T) {
	got, hangs, release := make(chan notify.Notice, 10), make(chan struct{}, 10), make(chan struct{})
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var n notify.Notice
		switch err := json.NewDecoder(r.Body).Decode(&n); {
		case err != nil:
			t.Errorf("reading the notice: %v", err)
		case strings.HasPrefix(r.URL.Path, "/hangs"):
			hangs <- struct{}{}
			<-release
		default:
			got <- n
			w.WriteHeader(http.StatusForbidden) // a final failure, which is logged
		}
	}))
	t.Cleanup(hook.Close)
	t.Cleanup(func() { close(release) })
	t.Setenv("HOOK", hook.URL+"/SeCrEt1?token=SeCrEt2")
	p := newProxy(t)
	options := "notify {env.HOOK}\n\t\tnotify " + hook.URL + "/hangs/SeCrEt3 {\n\t\t\ton all_down\n\t\t}"
	if err := p.load(options); err != nil {
		t.Fatal(err)
	}
	p.get()
	n := <-got
	if n.Event != "all_down" || n.Pool != "llm" || n.State != "down" || n.Incident == nil || n.Incident.Kind != "down" || !strings.HasPrefix(n.Text, "llm is down") {
		t.Errorf("the notice is %+v", n)
	}
	if n.Incident != nil && (len(n.Incident.Endpoints) != 1 || n.Incident.Cause != "connection refused from GET /") {
		t.Errorf("the incident is %+v", n.Incident)
	}
	<-hangs
	text := p.logged(`"msg":"notice given up"`)
	if !strings.Contains(text, hook.URL) {
		t.Errorf("the log does not name the receiver: %s", text)
	}
	if err := p.load(options); err != nil { // the receiver still hangs
		t.Fatal(err)
	}
	if err := p.load(strings.Replace(options, "all_down", "incident_over", 1)); err != nil {
		t.Fatal(err)
	}
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	text = p.logged("")
	for secret := range strings.FieldsSeq("SeCrEt1 SeCrEt2 SeCrEt3") {
		if strings.Contains(text, secret) {
			t.Errorf("the log shows %s", secret)
		}
	}
}

// TestWrongNotifyIsRefused checks that wrong options are errors that do not show the URL.
func TestWrongNotifyIsRefused(t *testing.T) {
	p := newProxy(t)
	t.Setenv("EMPTY", "")
	for options, want := range map[string]string{
		"notify":                                                         "want one URL",
		"notify https://a.example/SeCrEt b":                              "want one URL",
		"notify https:///SeCrEt":                                         "no host",
		"notify hooks.example.com/SeCrEt":                                "no scheme",
		"notify slack://SeCrEt":                                          "slack",
		"notify slak://SeCrEt":                                           `"slak"`,
		"notify {env.NOT_SET_SECRET}":                                    "no value",
		"notify {env.EMPTY}":                                             "no value",
		"notify https://a.example/SeCrEt {\nto x\n}":                     "only option",
		"notify https://a.example/SeCrEt {\non\n}":                       "at least one event",
		"notify https://a.example/SeCrEt {\non down\n}":                  `"down"; the events are failover, breaker_opened`,
		"notify https://a.example/SeCrEt {\non a a\n}":                   `"a"`,
		"notify https://a.example/SeCrEt {\non all_down all_down\n}":     "twice",
		"notify https://a.example/SeCrEt {\non all_down\non all_down\n}": "twice",
		"notify https://a.example/%zzSeCrEt":                             "escaped",
	} {
		if err := p.load(options); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "SeCrEt") {
			t.Errorf("%q: got %v, want %q", options, err, want)
		}
	}
	for config, want := range map[string]string{
		`{}`: "no URL",
		`{"url": "https://a.example/SeCrEt", "on": ["down"]}`:                 `"down"`,
		`{"url": "https://a.example/SeCrEt", "on": ["all_down", "all_down"]}`: "twice",
		`{"url": "SeCrEt"}`: "no scheme",
	} {
		n := new(notify.URL)
		if err := json.Unmarshal([]byte(config), n); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
		if err := n.Provision(ctx); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "SeCrEt") {
			t.Errorf("%s: got %v, want %q", config, err, want)
		}
		if err := n.Cleanup(); err != nil {
			t.Error(err)
		}
		cancel()
	}
}

// TestNotifyInACaddyfile checks that the options become JSON of the app.
func TestNotifyInACaddyfile(t *testing.T) {
	config, err := adapt("{\nfailover {\nnotify https://a.example/hook\nnotify slack://hook:T00000000-B00000000-XXXXXXXXXXXXXXXXXXXXXXXX@webhook {\non all_down\non incident_over sla_burning\n}\n}\n}")
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"apps":{"failover":{"notify":[{"notifier":"url","url":"https://a.example/hook"},` +
		`{"notifier":"url","on":["all_down","incident_over","sla_burning"],"url":"slack://hook:T00000000-B00000000-XXXXXXXXXXXXXXXXXXXXXXXX@webhook"}]}}}`
	if string(config) != want {
		t.Errorf("got  %s\nwant %s", config, want)
	}
}
