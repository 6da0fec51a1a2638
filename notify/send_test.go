package notify

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/apifailover/caddy-failover/internal/event"
	"github.com/apifailover/caddy-failover/internal/incident"
)

// An inbox is an HTTP server that records the latest request.
type inbox struct {
	*httptest.Server
	mu     sync.Mutex
	answer func(w http.ResponseWriter)
	method string
	url    string // with the request's host
	header http.Header
	body   map[string]any
}

func newInbox(t *testing.T) *inbox {
	i := new(inbox)
	i.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		i.mu.Lock()
		defer i.mu.Unlock()
		i.body = nil
		_ = json.Unmarshal(text, &i.body) // it stays nil if the text is no JSON
		i.method, i.url, i.header = r.Method, r.Host+r.URL.String(), r.Header
		if i.answer != nil {
			i.answer(w)
		}
	}))
	t.Cleanup(i.Close)
	return i
}

// RoundTrip sends any request to the inbox, with its own Host field.
func (i *inbox) RoundTrip(r *http.Request) (*http.Response, error) {
	to := *r.URL
	to.Scheme, to.Host = "http", strings.TrimPrefix(i.URL, "http://")
	clone := r.Clone(r.Context())
	clone.Host, clone.URL = r.URL.Host, &to
	return new(http.Transport).RoundTrip(clone)
}

// answers sets how the inbox responds from now on.
func (i *inbox) answers(answer func(w http.ResponseWriter)) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.answer = answer
}

// redirect sends the requests of services, whose hosts are fixed, to the inbox until the test ends.
func (i *inbox) redirect(t *testing.T) {
	before := http.DefaultTransport
	http.DefaultTransport = i
	t.Cleanup(func() { http.DefaultTransport = before })
}

// sendTo sends a notice to a URL.
func sendTo(t *testing.T, to string, n *Notice) error {
	t.Helper()
	s, err := newTarget(to)
	if err != nil {
		t.Fatal(err)
	}
	return s.send(t.Context(), n)
}

// someNotice returns the notice of an outage.
func someNotice() *Notice {
	start := time.Date(2026, 11, 28, 1, 2, 4, 0, time.UTC)
	s := &story{pool: "llm", incident: 7, down: true}
	return s.notice(&item{count: 3, main: event.Event{
		At: start, Kind: event.AllDown, Pool: "llm", Reason: "breaker", Incident: 7, Details: map[string]any{"endpoints": 2},
	}}, &incident.Incident{
		ID: 7, Pool: "llm", Kind: incident.Down, Start: start, Cause: "503 from POST /v1/chat", Down: 61, Failed: 12, Saved: 30,
		Endpoints: []incident.Endpoint{{Name: "one", Since: start, Times: 1, Reason: "consecutive_failures", Cause: "503 from POST /v1/chat"}, {Name: "two", Since: start, Times: 1, Reason: "denied"}},
	})
}

// TestAURLGetsJSON checks that a URL gets all that is known of the incident.
func TestAURLGetsJSON(t *testing.T) {
	i := newInbox(t)
	if err := sendTo(t, i.URL+"/hook?key=abc", someNotice()); err != nil {
		t.Fatal(err)
	}
	if i.method != "POST" || !strings.HasSuffix(i.url, "/hook?key=abc") || i.header.Get("Content-Type") != "application/json" {
		t.Errorf("%s %s %v", i.method, i.url, i.header)
	}
	text, _ := i.body["text"].(string)
	for _, line := range []string{"llm is down: every endpoint is out\n", "\none: 503 from POST /v1/chat\n", "\ntwo: denied\n", "\ndown for 1m1s\n", "\n12 requests failed, 30 were saved by failover\n"} {
		if !strings.Contains(text, line) {
			t.Errorf("%q lacks %q", text, line)
		}
	}
	ofScopes := someNotice()
	ofScopes.Details = map[string]any{"endpoints": 2, "scopes": "big, small"}
	if text := ofScopes.headline(nil); text != "llm is down: no endpoint takes requests of scope big, small" {
		t.Errorf("a pool that is down for its scopes: %q", text)
	}
	if host, _ := i.body["host"].(string); host == "" {
		t.Error("no host")
	}
	delete(i.body, "text")
	delete(i.body, "host")
	whole, _ := json.Marshal(someNotice().Incident)
	var of map[string]any
	_ = json.Unmarshal(whole, &of)
	if want := map[string]any{
		"event": "all_down", "pool": "llm", "state": "down", "at": "2026-11-28T01:02:04Z", "count": 3.0, "reason": "breaker",
		"details": map[string]any{"endpoints": 2.0}, "incident": of,
	}; !reflect.DeepEqual(i.body, want) {
		t.Errorf("got  %v\nwant %v", i.body, want)
	}
}

// TestWhatAURLAnswers checks that a status decides whether the notice has arrived, and whether there
// is another try.
func TestWhatAURLAnswers(t *testing.T) {
	i := newInbox(t)
	for status, want := range map[int]failure{
		200: {}, 202: {}, 204: {},
		302: {final: true}, 400: {final: true}, 401: {final: true}, 404: {final: true}, 410: {final: true},
		408: {}, 425: {}, 429: {retryAfter: 7 * time.Second}, 500: {}, 503: {retryAfter: 7 * time.Second},
	} {
		i.answers(func(w http.ResponseWriter) {
			if want.retryAfter > 0 {
				w.Header().Set("Retry-After", "7")
			}
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(status)
		})
		err := sendTo(t, i.URL, someNotice())
		if (err == nil) != (status < 300) {
			t.Errorf("%d: %v", status, err)
		} else if err != nil && failureOf(err) != want {
			t.Errorf("%d: %+v", status, failureOf(err))
		}
	}
}

// TestFailuresOfTheNetwork checks that a failure of the network is not final, and that the notice may
// have arrived after a timeout.
func TestFailuresOfTheNetwork(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s, err := newTarget("http://" + l.Addr().String() + "/SeCrEt")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := s.send(ctx, someNotice()); err == nil || failureOf(err) != (failure{mayHaveArrived: true}) || strings.Contains(s.secrets.redact(err), "SeCrEt") {
		t.Errorf("a receiver that hangs: %v", err)
	}
	l.Close()
	if err := s.send(t.Context(), someNotice()); err == nil || failureOf(err) != (failure{}) || strings.Contains(s.secrets.redact(err), "SeCrEt") {
		t.Errorf("a receiver that is not there: %v", err)
	}
}

// TestServices checks that services get messages in the formats that they document.
func TestServices(t *testing.T) {
	i := newInbox(t)
	i.redirect(t)
	n := someNotice()
	text := func(path ...string) string {
		var at any = i.body
		for _, key := range path {
			at, _ = at.(map[string]any)[key]
		}
		value, _ := at.(string)
		return value
	}
	// https://api.slack.com/messaging/webhooks
	i.answers(func(w http.ResponseWriter) { _, _ = io.WriteString(w, "ok") })
	if err := sendTo(t, "slack://hook:T00000000-B00000000-XXXXXXXXXXXXXXXXXXXXXXXX@webhook", n); err != nil {
		t.Error(err)
	}
	attached := ""
	for k, one := range i.body["attachments"].([]any) {
		if k > 0 {
			attached += "\n"
		}
		attached += one.(map[string]any)["text"].(string)
	}
	if i.method != "POST" || i.url != "hooks.slack.com/services/T00000000/B00000000/XXXXXXXXXXXXXXXXXXXXXXXX" || text("text")+"\n"+attached != n.Text {
		t.Errorf("Slack got %s %s %v", i.method, i.url, i.body)
	}
	// https://core.telegram.org/bots/api#sendmessage
	i.answers(func(w http.ResponseWriter) { _, _ = io.WriteString(w, `{"ok": true, "result": {"message_id": 1}}`) })
	if err := sendTo(t, "telegram://110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw@telegram?chats=@alerts,-1001234:5&notification=no", n); err != nil {
		t.Error(err)
	}
	if i.method != "POST" || i.url != "api.telegram.org/bot110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw/sendMessage" || text("chat_id") != "-1001234" ||
		i.body["message_thread_id"] != 5.0 || i.body["disable_notification"] != true || text("text") != n.Text {
		t.Errorf("Telegram got %s %s %v", i.method, i.url, i.body)
	}
	// https://open.feishu.cn/document/client-docs/bot-v3/add-custom-bot
	i.answers(func(w http.ResponseWriter) { _, _ = io.WriteString(w, `{"code": 0, "msg": "success"}`) })
	if err := sendTo(t, "lark://open.feishu.cn/0123abcd-0000-0000-0000-000000000000", n); err != nil {
		t.Error(err)
	}
	if i.method != "POST" || i.url != "open.feishu.cn/open-apis/bot/v2/hook/0123abcd-0000-0000-0000-000000000000" || text("msg_type") != "text" || text("content", "text") != n.Text {
		t.Errorf("Feishu got %s %s %v", i.method, i.url, i.body)
	}
}

// TestClientsMentionNobody checks that a path or a scope of a client's request does not call the members of a chat.
func TestClientsMentionNobody(t *testing.T) {
	i := newInbox(t)
	i.redirect(t)
	n := someNotice()
	n.Text = "llm is down: no endpoint takes requests of scope <!channel>\none: 503 from GET /@everyone"
	for to, answer := range map[string]string{
		"slack://hook:T00000000-B00000000-XXXXXXXXXXXXXXXXXXXXXXXX@webhook":                    "ok",
		"telegram://110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw@telegram?chats=-1001234":      `{"ok": true, "result": {"message_id": 1}}`,
		"lark://open.feishu.cn/0123abcd-0000-0000-0000-000000000000":                           `{"code": 0, "msg": "success"}`,
		"discord://XXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXX@123456789": "",
	} {
		i.answers(func(w http.ResponseWriter) {
			if answer == "" {
				w.WriteHeader(http.StatusNoContent)
			}
			_, _ = io.WriteString(w, answer)
		})
		if err := sendTo(t, to, n); err != nil {
			t.Errorf("%s: %v", to, err)
		}
		body, err := json.Marshal(i.body)
		if err != nil {
			t.Fatal(err)
		}
		if text := string(body); !strings.Contains(text, "everyone") || strings.Contains(text, "@everyone") || strings.Contains(text, `\u003c!`) {
			t.Errorf("%s got %s", to, text)
		}
	}
}

// TestErrorsOfServicesShowNoSecrets checks that errors show no secret, even if the service sends the
// URL back.
func TestErrorsOfServicesShowNoSecrets(t *testing.T) {
	i := newInbox(t)
	i.redirect(t)
	for to, secret := range map[string][]string{
		"slack://hook:T00000000-B00000000-XXXXXXXXXXXXXXXXXXXXXXXX@webhook":              {"T00000000", "B00000000", "XXXXXXXX"},
		"telegram://110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw@telegram?chats=@alerts": {"AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw", "110201543"},
		"lark://open.feishu.cn/0123abcd-0000-0000-0000-000000000000":                     {"0123abcd"},
		"bark://:DeviceKey1@api.day.app":                                                 {"DeviceKey1"},
		"mattermost://chat.example.com/TokenOfMattermost":                                {"TokenOfMattermost"},
		"https://example.com/Hook1234?token=Token5678":                                   {"Hook1234", "Token5678"},
		"ntfy://user:PassWord@ntfy.example.com/SecretTopic":                              {"PassWord", "SecretTopic"},
		"generic+https://example.com/Hook1234?token=Token5678":                           {"Hook1234", "Token5678"},
		"wecom://693axxx6-7aoc-4bc4-97a0-0ec2sifa5aaa":                                   {"693axxx6", "0ec2sifa5aaa"},
	} {
		for what, answer := range map[string]func(w http.ResponseWriter){
			"a status":           func(w http.ResponseWriter) { w.WriteHeader(403) },
			"the URL":            func(w http.ResponseWriter) { w.WriteHeader(500); _, _ = io.WriteString(w, i.url) },
			"the URL, escaped":   func(w http.ResponseWriter) { w.WriteHeader(400); _, _ = io.WriteString(w, url.QueryEscape(i.url)) },
			"a broken transport": nil,
		} {
			if answer == nil {
				answer = func(http.ResponseWriter) { panic(http.ErrAbortHandler) }
			}
			i.answers(answer)
			s, err := newTarget(to)
			if err != nil {
				t.Fatalf("%s: %v", to, err)
			}
			if err = s.send(t.Context(), someNotice()); err == nil {
				t.Errorf("%s, %s: no error", to, what)
				continue
			}
			shown := s.label + " " + s.secrets.redact(err)
			for _, one := range secret {
				if strings.Contains(strings.ToLower(shown), strings.ToLower(one)) {
					t.Errorf("%s: %q shows %s", what, shown, one)
				}
			}
			if len(shown) < 10 || strings.ContainsAny(shown, "\n\x1b") {
				t.Errorf("%s: %q", what, shown)
			}
		}
	}
}

// TestAServiceThatHangs checks that a service has at most maxHanging tries that have not returned.
func TestAServiceThatHangs(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	t.Cleanup(server.CloseClientConnections)
	s, err := newTarget("generic+" + server.URL)
	if err != nil {
		t.Fatal(err)
	}
	for i := range maxHanging + 2 {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		err := s.send(ctx, someNotice())
		cancel()
		if want := i >= maxHanging; err == nil || errors.Is(err, errHanging) != want {
			t.Errorf("try %d: %v", i, err)
		}
	}
}

// TestWrongURLsAreRefused checks that a wrong URL is an error that does not show it.
func TestWrongURLsAreRefused(t *testing.T) {
	for to, want := range map[string]string{
		"hooks.example.com/SeCrEt":     "no scheme",
		"https:///SeCrEt":              "no host",
		"slak://SeCrEt@webhook":        `"slak"`,
		"slack://SeCrEt":               "not complete for slack",
		"telegram://SeCrEt":            "not complete for telegram",
		"http://example.com/%zzSeCrEt": "escaped",
		"matrix:///SeCrEt":             "no host",
	} {
		_, err := newTarget(to)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "SeCrEt") {
			t.Errorf("%s: %v, want %q", to, err, want)
		}
	}
}
