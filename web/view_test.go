//go:build system

package web_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp/kb"

	"github.com/apifailover/caddy-failover/web/internal/chromium"
)

// desktop is the look in which most tests open the page.
var desktop = chromium.Look{Width: 1440, Height: 900, Language: "en"}

// inBothLanguages opens an address in English and in Chinese.
func inBothLanguages(browser *chromium.Browser, address string) (tabs []*chromium.Tab) {
	for _, language := range []string{"en", "zh-CN"} {
		tabs = append(tabs, browser.Open(address, chromium.Look{Width: 1440, Height: 900, Language: language}))
	}
	return tabs
}

// fits checks that the page does not scroll sideways.
func fits(t *testing.T, tab *chromium.Tab) {
	t.Helper()
	if elements := chromium.Eval[string](tab, wider); elements != "" {
		t.Errorf("wider than the window: %s", elements)
	}
}

// looks returns both languages at the widths of a desktop and of a phone, each in another theme.
func looks() (all []chromium.Look) {
	for _, language := range []string{"en", "zh-CN"} {
		all = append(all, chromium.Look{Width: 1440, Height: 900, Language: language, Dark: language == "en"},
			chromium.Look{Width: 390, Height: 844, Language: language, Dark: language != "en"})
	}
	return all
}

// nameOf returns the name of a screenshot.
func nameOf(what string, l chromium.Look) string {
	return fmt.Sprintf("%s-%d-%s-%s", what, l.Width, map[bool]string{false: "light", true: "dark"}[l.Dark], l.Language)
}

// TestTableAndEndpointAreWhole checks the table and the view of endpoints in every look.
func TestTableAndEndpointAreWhole(t *testing.T) {
	browser := chromium.Start(t)
	address := serve(t, showcase(time.Now()))
	for _, look := range looks() {
		for what, query := range map[string]string{
			"table": "?view=table&open=weather", "endpoint": "?pool=llm&endpoint=openai&span=24h", "scopes": "?pool=llm&endpoint=anthropic", "gone": "?pool=llm&endpoint=nobody",
		} {
			t.Run(nameOf(what, look), func(t *testing.T) {
				tab := browser.For(t).Open(address+query, look)
				tab.Until(30*time.Second, live+" && "+map[string]string{
					"table": "document.querySelectorAll('.dense tbody tr').length === 10", "endpoint": "document.querySelectorAll('.panel tbody tr').length === 3 && " + charted,
					"scopes": charted, "gone": "document.querySelector('.gone').checkVisibility()",
				}[what])
				tab.FullShot(nameOf(what, look), "true")
				fits(t, tab)
				if words := untranslated(tab, look.Language); words != "" {
					t.Errorf("words that are not in %s: %s", look.Language, words)
				}
				for _, bad := range []string{"undefined", "NaN", "{n}", "[object"} {
					if strings.Contains(chromium.Eval[string](tab, "document.body.textContent"), bad) {
						t.Errorf("the page says %q", bad)
					}
				}
				accessible(t, tab)
			})
		}
	}
}

// TestThirtyEndpointsAreInSight checks that a window of 1440 by 900 shows 30 lines of the table, with
// operator actions.
func TestThirtyEndpointsAreInSight(t *testing.T) {
	s := crowd(50)
	s.handlers.Actions = new(actionLog)
	address := serve(t, s)
	tab := chromium.Start(t).Open(address, desktop)
	tab.Until(30*time.Second, charted)
	chromium.Eval[any](tab, "document.querySelector('button[data-value=table]').click()")
	tab.Until(30*time.Second, "document.querySelectorAll('.dense tbody tr').length === 50")
	if n := chromium.Eval[int](tab, "[...document.querySelectorAll('.dense tbody tr')].filter((row) => row.getBoundingClientRect().bottom <= innerHeight).length"); n < 30 {
		t.Errorf("%d endpoints are in sight, want 30", n)
	}
	if query := chromium.Eval[string](tab, "location.search"); query != "?view=table" {
		t.Errorf("the address says %q", query)
	}
	tab.Reload()
	tab.Until(30*time.Second, "document.querySelectorAll('.dense tbody tr').length === 50")
	tab.Shot("table-fifty-1440-light-en")
}

// TestIllPoolsComeFirst checks that the page folds pools that are well, shows them below the others,
// and unfolds them on demand.
func TestIllPoolsComeFirst(t *testing.T) {
	s := showcase(time.Now())
	tab := chromium.Start(t).Open(serve(t, s), desktop)
	tab.Until(30*time.Second, live)
	order := func() string {
		return chromium.Eval[string](tab, "[...document.querySelectorAll('.pool')].map((p) => p.querySelector('h2').textContent + (p.dataset.folded === undefined ? '' : ' folded')).join()")
	}
	if got := order(); got != "llm,geocoding,weather folded" {
		t.Errorf("the pools are %s", got)
	}
	s.change(func() { s.pools[2]["down"] = true })
	tab.Until(30*time.Second, "document.querySelector('.pool h2').textContent === 'weather'")
	if got := order(); got != "weather,llm,geocoding" {
		t.Errorf("with weather down, the pools are %s", got)
	}
	s.change(func() { s.pools[2]["down"] = false })
	tab.Until(30*time.Second, "document.querySelector('#pool-weather').dataset.folded !== undefined")
	chromium.Eval[any](tab, "document.querySelector('#pool-weather .fold').focus()")
	tab.Press(kb.Enter)
	tab.Until(30*time.Second, "document.querySelector('#pool-weather .card')")
	if query := chromium.Eval[string](tab, "location.search"); query != "?open=weather" {
		t.Errorf("the address says %q", query)
	}
}

// TestAScopeThatIsOutNeedsAttention checks that a pool is not well while an endpoint is out for a
// scope.
func TestAScopeThatIsOutNeedsAttention(t *testing.T) {
	s := showcase(time.Now())
	s.pools = s.pools[2:] // weather, which is well
	tab := chromium.Start(t).Open(serve(t, s), desktop)
	tab.Until(30*time.Second, live+" && document.querySelector('.overall').textContent === 'All pools answer'")
	e := s.pools[0]["endpoints"].([]object)[0]
	scope := func(name, state string, share float64) object {
		return object{"scope": name, "state": state, "share": share, "score": 1.0, "reason": "consecutive_failures", "since": time.Now(), "attempts": 5}
	}
	for _, test := range []struct {
		scopes                        []object
		overall, verdict, note, level string
	}{
		{[]object{scope("big", "open", 0), scope("small", "closed", 1)}, "1 pool needs attention", "Degraded: no endpoint takes requests of big", "Scope big: Out", "warn"},
		{[]object{scope("big", "open", 0), scope("small", "recovering", 0)}, "1 pool is down", "Down: no endpoint takes requests of big, small", "Scope small: On trial", "warn"},
		{[]object{scope("big", "recovering", 0.2), scope("small", "closed", 1)}, "1 pool needs attention", "Answers from tier 1", "Scope big: On trial", "warn"},
		{nil, "All pools answer", "Answers from tier 1", "", "good"},
	} {
		s.change(func() {
			e["scopes"] = test.scopes
			s.pools[0]["down"] = strings.HasPrefix(test.verdict, "Down")
		})
		tab.Until(30*time.Second, fmt.Sprintf("document.querySelector('.overall').textContent === %q && document.querySelector('.verdict').textContent === %q && document.querySelector('.card').dataset.level === %q",
			test.overall, test.verdict, test.level))
		if text := tab.Text(".card .notes"); !strings.Contains(text, test.note) {
			t.Errorf("the card says %q, want %q", text, test.note)
		}
	}
}

// TestAnEndpointHasALink checks that the view of an endpoint opens by keyboard, has an address of its
// own, and goes back.
func TestAnEndpointHasALink(t *testing.T) {
	tab := chromium.Start(t).Open(serve(t, showcase(time.Now())), desktop)
	tab.Until(30*time.Second, charted)
	chromium.Eval[any](tab, cardOf("openai")+".querySelector('a').focus()")
	tab.Press(kb.Enter)
	tab.Until(30*time.Second, "document.activeElement.textContent === 'openai' && document.querySelectorAll('.panel tbody tr').length === 3")
	if query := chromium.Eval[string](tab, "location.search"); query != "?pool=llm&endpoint=openai" {
		t.Errorf("the address says %q", query)
	}
	text := chromium.Eval[string](tab, "document.querySelector('main').innerText")
	for _, want := range []string{"503", "POST /v1/chat/completions", "timeout after 2s", "Down since", "Breaker", "open", "Out at 2 of 5 instances", "What helps: look at its log, or at the status page of its provider"} {
		if !strings.Contains(text, want) {
			t.Errorf("the view does not say %q", want)
		}
	}
	chromium.Eval[any](tab, "document.querySelector('[data-span=\"30d\"]').click()")
	tab.Until(30*time.Second, "location.search.endsWith('span=30d') && document.querySelector('.endpoint-view .hours').textContent.startsWith('30 d ago')")
	chromium.Eval[any](tab, "history.back()")
	tab.Until(30*time.Second, "location.search === '' && !document.querySelector('.endpoint-view') && document.querySelector('.pools').checkVisibility()")
}

// TestPasswordInTheAddress checks that the page reads details if its address contains a user and a
// password.
func TestPasswordInTheAddress(t *testing.T) {
	address := strings.Replace(serve(t, showcase(time.Now())), "://", "://ops:hiccup@", 1)
	tab := chromium.Start(t).Open(address+"?pool=llm&endpoint=openai", desktop)
	tab.Until(30*time.Second, "document.querySelectorAll('.panel tbody tr').length === 3")
	chromium.Eval[any](tab, "document.querySelector('[data-span=\"30d\"]').click()")
	tab.Until(30*time.Second, "location.search.endsWith('span=30d')")
}

// TestDetailsThatCannotBeRead checks that the view of an endpoint shows why it has no details.
func TestDetailsThatCannotBeRead(t *testing.T) {
	s := showcase(time.Now())
	address := serve(t, s)
	tab := chromium.Start(t).Open(address, desktop)
	tab.Until(30*time.Second, charted)
	chromium.Eval[any](tab, "window.fetch = () => Promise.resolve(new Response('', { status: 502 }))")
	chromium.Eval[any](tab, cardOf("openai")+".querySelector('a').click()")
	tab.Until(30*time.Second, "document.querySelector('.endpoint-view').innerText.includes('The proxy does not give the details: 502')")
}

// TestWhatHelps checks that the page says what usually helps against each kind of failure, in both
// languages.
func TestWhatHelps(t *testing.T) {
	browser := chromium.Start(t)
	s := showcase(time.Now())
	address := serve(t, s)
	tabs := inBothLanguages(browser, address+"?pool=llm&endpoint=openai")
	for _, test := range []struct{ reason, outcome, what, en, zh string }{
		{"consecutive_failures", "dial", "no such host", "the DNS of this machine", "DNS"},
		{"consecutive_failures", "dial", "connection refused", "check that it runs", "是否在运行"},
		{"consecutive_failures", "dial", "network is unreachable", "can reach its address", "能否连到"},
		{"consecutive_failures", "tls", "certificate has expired", "check its certificate", "检查它的证书"},
		{"denied", "denied", "401", "check its key", "检查它的密钥"},
		{"failure_ratio", "rate_limited", "429", "send it fewer requests", "少发一些"},
		{"trial_failed", "truncated", "connection closed in mid-response", "ends connections early", "过早关闭连接"},
		{"relapse", "timeout", "timeout after 2s", "look at its load", "查看它的负载"},
		{"slower_than_usual", "", "no response within 206ms", "look at its load", "查看它的负载"},
		{"check_failed", "", "503", "the uri of its health check", "健康检查的 uri"},
	} {
		s.change(func() {
			e := s.pools[1]["endpoints"].([]object)[0]
			e["reason"], e["cause"] = test.reason, object{"outcome": test.outcome, "what": test.what, "method": "GET", "path": "/", "at": time.Now()}
		})
		for i, want := range []string{"What helps: .*" + test.en, "建议：.*" + test.zh} {
			tabs[i].Until(30*time.Second, fmt.Sprintf("RegExp(%q).test(document.querySelector('.endpoint-view .operator')?.textContent)", want))
		}
	}
}

// TestCausesAreTranslated checks causes, some with numbers in them, in both languages.
func TestCausesAreTranslated(t *testing.T) {
	browser := chromium.Start(t)
	s := showcase(time.Now())
	address := serve(t, s)
	tabs := inBothLanguages(browser, address+"?pool=llm&endpoint=openai")
	for what, want := range map[string][2]string{
		"503":                           {"503 from POST /v1/chat", "POST /v1/chat 得到 503"},
		"connection reset by peer":      {"connection reset from POST /v1/chat", "POST /v1/chat 连接被重置"},
		"no response within 206ms":      {"no response within 206ms from POST /v1/chat", "POST /v1/chat 206ms 内没有应答"},
		"200 with an error in the body": {"200 with an error in the body from POST", "POST /v1/chat 200，应答体含有错误"},
		"timeout after 1.5s, at the request's deadline": {"timeout after 1.5s, at the deadline of the request", "POST /v1/chat 1.5s 后到达请求的时限"},
		"silent for 10s":    {"silent for 10s from", "10s 内没有新数据"},
		"body at 4 bytes/s": {"body at 4 bytes/s from", "应答体速度仅 4 字节/秒"},
		"something unusual": {"something unusual from POST /v1/chat", "POST /v1/chat something unusual"},
	} {
		s.change(func() {
			s.pools[1]["endpoints"].([]object)[0]["cause"] = object{"what": what, "method": "POST", "path": "/v1/chat", "at": time.Now()}
		})
		for i, tab := range tabs {
			tab.Until(30*time.Second, fmt.Sprintf("document.querySelector('.endpoint-view .note')?.textContent.includes(%q)", want[i]))
		}
	}
}

// TestIncidentsAreFolded checks that incidents open by keyboard, and that filters of the list work.
func TestIncidentsAreFolded(t *testing.T) {
	s := showcase(time.Now())
	tab := chromium.Start(t).Open(serve(t, s), desktop)
	tab.Until(30*time.Second, live+" && document.querySelectorAll('.group[data-incident]').length === 2")
	if n := chromium.Eval[int](tab, "document.querySelectorAll('.group .event').length"); n != 0 {
		t.Errorf("%d events of folded groups are drawn", n)
	}
	if !strings.Contains(tab.Text(".events"), "anthropic for claude-haiku is out") {
		t.Error("an event of a scope does not name it")
	}
	text := tab.Text(".group[data-incident='llm/1'] summary")
	for _, want := range []string{"Pool was down", "(10 min)", "connection refused from POST /v1/chat", "openai ×3", "812 requests failed, 40 saved by failover"} {
		if !strings.Contains(text, want) {
			t.Errorf("the incident does not say %q: %s", want, text)
		}
	}
	chromium.Eval[any](tab, "document.querySelector(`.group[data-incident='llm/2'] summary`).focus()")
	tab.Press(kb.Enter)
	tab.Until(30*time.Second, "document.querySelector('.group .event .what')?.textContent === 'openai is out'")
	s.happen(time.Now(), "breaker_recovering", "llm", object{"endpoint": "openai", "reason": "open_period_over", "incident": 2})
	tab.Until(30*time.Second, "document.querySelector('.group .event .what').textContent === 'openai is on trial'")
	for filter, want := range map[string]string{"kind": "incident", "at": "groq", "in": "geocoding"} {
		chromium.Eval[any](tab, fmt.Sprintf("{ const s = document.querySelector('#events-%s'); s.value = %q; s.dispatchEvent(new Event('change')) }", filter, want))
		tab.Until(30*time.Second, fmt.Sprintf("new URLSearchParams(location.search).get(%q) === %q", filter, want))
		texts := chromium.Eval[[]string](tab, "[...document.querySelectorAll('.events > li')].map((li) => li.innerText)")
		for _, text := range texts {
			if filter == "at" && !strings.Contains(text, "groq") || filter == "in" && strings.Contains(text, "openai") || filter == "kind" && !strings.Contains(text, "requests failed") {
				t.Errorf("%s=%s lets %q through", filter, want, text)
			}
		}
		if len(texts) == 0 {
			t.Errorf("%s=%s lets nothing through", filter, want)
		}
		chromium.Eval[any](tab, fmt.Sprintf("{ const s = document.querySelector('#events-%s'); s.value = ''; s.dispatchEvent(new Event('change')) }", filter))
	}
}

// actionLog records the operator actions that a page sends.
type actionLog struct {
	mu     sync.Mutex
	bodies []object
	refuse string // refuses actions with this error if it is not empty
}

func (l *actionLog) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	var action object
	_ = json.Unmarshal(body, &action)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refuse != "" {
		w.WriteHeader(http.StatusForbidden)
		_ = json.NewEncoder(w).Encode(object{"error": l.refuse})
		return
	}
	l.bodies = append(l.bodies, action)
	_, _ = w.Write([]byte("{}"))
}

// TestOperatorActions checks that the page sends actions by keyboard, and offers none if they are
// turned off.
func TestOperatorActions(t *testing.T) {
	browser := chromium.Start(t)
	s := showcase(time.Now())
	tab := browser.Open(serve(t, s), desktop)
	tab.Until(30*time.Second, charted+" && "+live)
	if chromium.Eval[bool](tab, "[...document.querySelectorAll('.act')].some((b) => b.checkVisibility())") {
		t.Error("a page that is read-only offers actions")
	}
	actions := new(actionLog)
	s.handlers.Actions = actions
	address := serve(t, s)
	for _, look := range looks() {
		tab := browser.Open(address, look)
		tab.Until(30*time.Second, charted+" && "+cardOf("openai")+".querySelector('.act').checkVisibility()")
		chromium.Eval[any](tab, cardOf("openai")+".querySelector('.act').focus()")
		tab.Press(kb.Enter)
		tab.Until(30*time.Second, "document.activeElement.value === 'drain'")
		accessible(t, tab)
		tab.Shot(nameOf("actions", look))
		fits(t, tab)
		if look.Language != "en" {
			continue
		}
		tab.Press(kb.ArrowDown) // force out
		chromium.Eval[any](tab, "document.querySelector('#act-why').focus()")
		tab.Press(kb.Tab) // cancel
		tab.Press(kb.Tab) // do it
		tab.Press(kb.Enter)
		if !chromium.Eval[bool](tab, "document.querySelector('dialog').open") {
			t.Error("an action without a reason was sent")
		}
		chromium.Eval[any](tab, "document.querySelector('#act-why').focus()")
		tab.Press("bad data")
		actions.mu.Lock()
		actions.refuse = "who are you?"
		actions.mu.Unlock()
		chromium.Eval[any](tab, "document.querySelector('.primary').click()")
		tab.Until(30*time.Second, "document.querySelector('.failed').textContent.includes('who are you?')")
		actions.mu.Lock()
		actions.refuse = ""
		actions.mu.Unlock()
		chromium.Eval[any](tab, "document.querySelector('.primary').click()")
		tab.Until(30*time.Second, "!document.querySelector('dialog') && document.activeElement.className === 'act'")
		chromium.Eval[any](tab, cardOf("vllm-local")+".querySelector('.act').click()")
		tab.Until(30*time.Second, "document.querySelector('dialog[open] [value=undo]')")
		tab.Press(kb.Escape)
		tab.Until(30*time.Second, "!document.querySelector('dialog')")
	}
	actions.mu.Lock()
	defer actions.mu.Unlock()
	trip := object{"pool": "llm", "endpoint": "openai", "action": "trip", "fields": object{"reason": "bad data"}}
	if want := fmt.Sprint([]object{trip, trip}); fmt.Sprint(actions.bodies) != want {
		t.Errorf("the page sent %v, want %s", actions.bodies, want)
	}
}

// TestNamesAreText checks that HTML in names, causes and reasons shows as text.
func TestNamesAreText(t *testing.T) {
	const evil = `<img src=x onerror=alert(1)>"&'/?#%`
	s := newScene()
	now := time.Now()
	one := endpoint(evil, "https://x.example/"+evil, 1, 1, 1)
	one["operator"] = object{"action": "drain", "reason": evil, "since": now}
	one["cause"], one["down_since"], one["state"] = object{"what": evil, "method": "GET", "path": "/" + evil, "at": now}, now, "open"
	one["scopes"] = []object{{"scope": evil, "state": "open", "share": 0.0, "score": 0.1, "attempts": 1, "since": now, "until": now}}
	s.pools = []object{{"name": evil, "at": now, "down": true, "calls_per_second": 1.0, "retries_denied": 0, "sla": standing(0.99, 0.9, 0.1, false), "endpoints": []object{one}}}
	s.incidents = []object{{"id": 1, "pool": evil, "kind": "down", "start": now, "cause": evil, "endpoints": []object{{"name": evil, "times": 1}}, "calls_failed": 1, "calls_saved": 0}}
	s.history = object{evil: object{evil: hour(1, 100, 0.1, 3, 5, 0.5)}}
	s.addDetails(now)
	s.happen(now, "breaker_opened", evil, object{"endpoint": evil, "reason": evil, "incident": 1})
	s.happen(now, "operator", evil, object{"endpoint": evil, "reason": "drain", "details": object{"note": evil}})
	s.happen(now, evil, evil, object{"endpoint": evil, "to": evil})
	address := serve(t, s)
	tab := chromium.Start(t).Open(address, chromium.Look{Width: 390, Height: 844, Language: "en"})
	tab.Until(30*time.Second, charted)
	chromium.Eval[any](tab, "document.querySelectorAll('details').forEach((d) => { d.open = true })")
	check := func() {
		t.Helper()
		if n := chromium.Eval[int](tab, "document.querySelectorAll('img').length"); n != 0 {
			t.Errorf("%d names became elements", n)
		}
		fits(t, tab)
	}
	check()
	chromium.Eval[any](tab, "document.querySelector('.endpoint-link').click()")
	tab.Until(30*time.Second, "document.querySelector('.endpoint-view h2')?.textContent === "+fmt.Sprintf("%q", evil)+" && document.querySelectorAll('.panel tbody tr').length >= 3")
	check()
	tab.Reload()
	tab.Until(30*time.Second, "document.querySelector('.endpoint-view h2')?.textContent === "+fmt.Sprintf("%q", evil))
	behaved(t, tab, address)
}
