//go:build system

package web_test

import (
	"fmt"
	"net"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp/kb"

	"github.com/apifailover/caddy-failover/web"
	"github.com/apifailover/caddy-failover/web/internal/chromium"
)

const (
	charted    = `document.querySelector('.canvas canvas')`
	allCharted = `document.querySelector('.canvas') && !document.querySelector('.canvas:not(:has(canvas))')`
	live       = `document.documentElement.dataset.link === 'live'`
)

// serve serves a page that shows a scene.
func serve(t testing.TB, s *scene) (address string) {
	t.Helper()
	return serveAt(t, s, "/failover")
}

func serveAt(t testing.TB, s *scene, path string) (address string) {
	t.Helper()
	page, err := web.NewPage(path, web.NewFeed(s.source()), s.handlers)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(page)
	t.Cleanup(func() {
		page.Close()
		server.Close()
	})
	return server.URL + path
}

// cardOf returns an expression for the card of an endpoint.
func cardOf(name string) string {
	return fmt.Sprintf("[...document.querySelectorAll('.card')].find((card) => card.querySelector('h4').textContent === %q)", name)
}

// accessible checks that axe-core finds no violations on the page as it is.
func accessible(t *testing.T, tab *chromium.Tab) {
	t.Helper()
	axe, err := os.ReadFile("testdata/axe-core/axe.min.js")
	if err != nil {
		t.Fatal(err)
	}
	chromium.Eval[any](tab, string(axe)+"; null")
	for _, v := range chromium.Eval[[]string](tab, `axe.run(document, {resultTypes: ['violations']}).then(({violations}) =>
		violations.map((v) => v.impact + ' ' + v.id + ': ' + v.help + ' ' + v.nodes.map((n) => n.html + ' ' + n.failureSummary).join(' | ')))`) {
		t.Errorf("axe: %s", v)
	}
}

// behaved checks that the page sent no request to another host, logged no error, and did not
// violate its security policy.
func behaved(t *testing.T, tab *chromium.Tab, address string) {
	t.Helper()
	if problems := tab.Problems(); len(problems) > 0 {
		t.Errorf("problems: %q", problems)
	}
	home, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	if len(tab.Requests()) < 8 {
		t.Errorf("only these requests: %q", tab.Requests())
	}
	for _, request := range tab.Requests() {
		if u, err := url.Parse(request); err != nil || u.Host != home.Host {
			t.Errorf("the page requested %s", request)
		}
	}
}

// TestEveryStateInEveryLook checks every state in every look. Nothing may be wider than the window,
// all words must be in the right language, and screen readers must find everything.
func TestEveryStateInEveryLook(t *testing.T) {
	browser := chromium.Start(t)
	for _, width := range []int{1440, 390} {
		for _, dark := range []bool{false, true} {
			for _, language := range []string{"en", "zh-CN"} {
				theme := map[bool]string{false: "light", true: "dark"}[dark]
				name := fmt.Sprintf("states-%d-%s-%s", width, theme, language)
				t.Run(name, func(t *testing.T) {
					address := serve(t, showcase(time.Now()))
					tab := browser.For(t).Open(address, chromium.Look{Width: width, Height: 900, Dark: dark, Language: language})
					tab.Until(30*time.Second, charted+" && "+live)
					tab.FullShot(name, allCharted)
					fits(t, tab)
					if got := chromium.Eval[string](tab, "document.documentElement.lang"); got != language {
						t.Errorf("the page is in %s", got)
					}
					if words := untranslated(tab, language); words != "" {
						t.Errorf("words that are not in %s: %s", language, words)
					}
					cancelled := map[string]string{"en": "Cancelled2", "zh-CN": "取消2"}[language]
					if !chromium.Eval[bool](tab, `document.body.textContent.includes('`+cancelled+`')`) {
						t.Error("cancelled attempts are not shown")
					}
					behaved(t, tab, address)
					accessible(t, tab)
				})
			}
		}
	}
}

// wider is an expression for the names of elements beyond the right edge, empty if the page does not
// scroll sideways.
const wider = `(() => {
	const width = document.documentElement.clientWidth;
	if (document.documentElement.scrollWidth <= width) return '';
	return [...document.querySelectorAll('body *')].filter((e) => e.getBoundingClientRect().right > width + 1)
		.map((e) => e.tagName + '.' + e.getAttribute('class')).slice(0, 5).join(' ');
})()`

// untranslated returns the text of the page that is in the wrong language.
func untranslated(tab *chromium.Tab, language string) string {
	if language == "en" {
		return chromium.Eval[string](tab, `document.body.innerText.replace('中文', '').match(/[\u3400-\u9fff]+/g)?.join(' ') ?? ''`)
	}
	// Names, addresses, units and typed reasons are not translated.
	return chromium.Eval[string](tab, `[...document.querySelectorAll('.state, .verdict, .note, dt, .label, h1, h3, .overall, .what, .why, .hours span, footer p')]
		.map((e) => e.textContent.replace(/“[^”]*”/g, '')).filter((text) => /[a-z]{4,} [a-z]{2,}/i.test(text)).join(' | ')`)
}

func TestTheFirstLoadIsSmall(t *testing.T) {
	address := serve(t, showcase(time.Now()))
	tab := chromium.Start(t).Open(address, desktop)
	tab.Until(30*time.Second, charted)
	received := tab.Received()
	t.Logf("the first load, with 9 endpoints of 2 pools, is %.1f KiB", received/1024)
	if received > 160*1024 || received < 50*1024 {
		t.Errorf("the first load is %.1f KiB, want 160 KiB at most", received/1024)
	}
}

// A relay passes data between browser and server. It can cut connections or hold data back.
type relay struct {
	addr string

	mu       sync.Mutex
	conns    map[net.Conn]bool
	released *sync.Cond // signals that holding is false
	holding  bool
	down     bool // new connections end at once; the listener stays, so that nobody else gets its port
}

func newRelay(t testing.TB, network, target string) *relay {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{conns: make(map[net.Conn]bool), addr: listener.Addr().String()}
	r.released = sync.NewCond(&r.mu)
	t.Cleanup(r.cut)
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			r.serve(client, network, target)
		}
	}()
	return r
}

// serve passes the data of a connection, unless the relay is down.
func (r *relay) serve(client net.Conn, network, target string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.down {
		client.Close()
		return
	}
	server, err := net.Dial(network, target)
	if err != nil {
		client.Close()
		return
	}
	r.conns[client], r.conns[server] = true, true
	go r.pass(client, server)
	go r.pass(server, client)
}

// up accepts connections again.
func (r *relay) up() {
	r.mu.Lock()
	r.down = false
	r.mu.Unlock()
}

// pass copies data until the connection ends.
func (r *relay) pass(from, to net.Conn) {
	defer from.Close()
	defer to.Close()
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		r.mu.Lock()
		for r.holding {
			r.released.Wait()
		}
		r.mu.Unlock()
		if n > 0 {
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// hold starts or stops holding data back.
func (r *relay) hold(holding bool) {
	r.mu.Lock()
	r.holding = holding
	r.mu.Unlock()
	r.released.Broadcast()
}

// cut ends all connections and accepts no new ones.
func (r *relay) cut() {
	r.hold(false)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.down = true
	for c := range r.conns {
		c.Close()
	}
	clear(r.conns)
}

// TestStaleAndBack checks that the page shows that its data is old or the connection is lost, and
// continues without losing or repeating events.
func TestStaleAndBack(t *testing.T) {
	s := showcase(time.Now())
	served, err := url.Parse(serve(t, s))
	if err != nil {
		t.Fatal(err)
	}
	line := newRelay(t, "tcp", served.Host)
	tab := chromium.Start(t).Open("http://"+line.addr+served.Path, desktop)
	tab.Until(20*time.Second, live)
	if chromium.Eval[bool](tab, "document.querySelector('.stale').checkVisibility()") {
		t.Error("the page is stale from the beginning")
	}

	// No data arrives, and no error.
	line.hold(true)
	tab.Until(20*time.Second, "document.documentElement.dataset.link === 'stale'")
	for selector, want := range map[string]string{
		".stale":           "What you see is from ",
		".link":            "No news for ",
		"p[role='status']": "No news for ",
	} {
		if got := tab.Text(selector); !strings.Contains(got, want) {
			t.Errorf("%s says %q, want %q", selector, got, want)
		}
	}
	tab.Shot("stale-1440-light-en")
	line.hold(false)
	tab.Until(20*time.Second, live)

	// The connection is cut.
	line.cut()
	tab.Until(20*time.Second, "document.documentElement.dataset.link === 'lost'")
	if got := tab.Text(".stale"); !strings.Contains(got, "The connection is lost") {
		t.Errorf("the page says %q", got)
	}
	tab.Shot("lost-1440-light-en")
	const singles = "document.querySelectorAll('.events > li').length"
	before := chromium.Eval[int](tab, singles)
	s.happen(time.Now(), "breaker_closed", "llm", object{"endpoint": "azure-east", "reason": "recovered"})
	s.change(func() {
		azure := s.pools[1]["endpoints"].([]object)[1] // of llm
		azure["state"], azure["share"], azure["score"] = "closed", 1.0, 1.0
	})
	line.up()
	tab.Until(20*time.Second, live+` && document.querySelector('.events').textContent.includes('azure-east is in service again')`)
	if after := chromium.Eval[int](tab, singles); after != before+1 {
		t.Errorf("%d events before the cut, %d after one more", before, after)
	}
	if state := chromium.Eval[string](tab, cardOf("azure-east")+".querySelector('.state').textContent"); state != "In service" {
		t.Errorf("after the cut azure-east is %s", state)
	}
	// The browser reports the failed connections, and nothing else.
	for _, problem := range tab.Problems() {
		if !strings.Contains(problem, "net::ERR_") {
			t.Errorf("problem: %s", problem)
		}
	}
}

// TestChoicesAreRemembered checks that the page picks a language that the browser accepts, and keeps
// the viewer's choices over a reload.
func TestChoicesAreRemembered(t *testing.T) {
	address := serve(t, showcase(time.Now()))
	tab := chromium.Start(t).Open(address, chromium.Look{Width: 390, Height: 844, Language: "fr-FR,zh-TW,en"})
	tab.Until(30*time.Second, charted)
	state := func() []string {
		return chromium.Eval[[]string](tab, `[document.documentElement.lang, document.querySelector('#pool-geocoding .verdict').textContent,
			getComputedStyle(document.body).colorScheme, getComputedStyle(document.documentElement).colorScheme,
			[...document.querySelectorAll('.controls button[aria-pressed=true]')].map((b) => b.title).join()]`)
	}
	if got := state(); got[0] != "zh-CN" || got[4] != "以卡片显示端点,中文,跟随系统" {
		t.Errorf("a viewer who reads French, Chinese and English gets %q", got)
	}
	background := func() string {
		return chromium.Eval[string](tab, "getComputedStyle(document.body).backgroundColor")
	}
	bright := background()
	press := func(title string) {
		chromium.Eval[any](tab, fmt.Sprintf("document.querySelector('button[title=%q]').focus()", title))
		tab.Press(kb.Enter)
	}
	press("English")
	press("Dark")
	for range 2 { // at once and after a reload
		tab.Until(30*time.Second, charted)
		got := state()
		if got[0] != "en" || got[1] != "Answers from tier 1" || got[4] != "Show endpoints as cards,English,Dark" || background() == bright {
			t.Errorf("after choosing English and dark: %q, background %s", got, background())
		}
		tab.Reload()
	}
	behaved(t, tab, address)
}

// TestKeyboard checks the order of focus: the page header, the pools, and their endpoints. The
// filter of the events works by keyboard.
func TestKeyboard(t *testing.T) {
	tab := chromium.Start(t).Open(serve(t, showcase(time.Now())), desktop)
	tab.Until(30*time.Second, charted)
	var seen []string
	for range 20 {
		tab.Press(kb.Tab)
		seen = append(seen, chromium.Eval[string](tab, `(() => {
			const e = document.activeElement, outline = getComputedStyle(e).outlineStyle;
			return (e.title || e.id || e.getAttribute('class') || e.textContent) + (outline === 'none' ? ' (not seen)' : '');
		})()`))
	}
	want := []string{"skip", "Show endpoints as cards", "Show endpoints as a table", "English", "中文", "System", "Light", "Dark",
		"llm", "geocoding", "weather", "fold", "endpoint-", "endpoint-"}
	for i := range want {
		if !strings.HasPrefix(seen[i], want[i]) || strings.Contains(seen[i], "not seen") {
			t.Fatalf("the Tab key goes to %q, want %q", seen, want)
		}
	}
	all := chromium.Eval[int](tab, "document.querySelectorAll('.events > li').length")
	chromium.Eval[any](tab, "document.querySelector('#events-in').focus()")
	tab.Press("g") // geocoding
	tab.Until(30*time.Second, "document.querySelector('#events-in').value === 'geocoding' && location.search === '?in=geocoding'")
	if n := chromium.Eval[int](tab, "document.querySelectorAll('.events > li').length"); n == 0 || n >= all {
		t.Errorf("%d events of geocoding among %d", n, all)
	}
}

// TestLiveRegionsDoNotShout checks that screen readers read changes out soon and in few words.
func TestLiveRegionsDoNotShout(t *testing.T) {
	s := showcase(time.Now())
	tab := chromium.Start(t).Open(serve(t, s), desktop)
	tab.Until(20*time.Second, live)
	chromium.Eval[any](tab, `(() => {
		window.said = [];
		for (const region of document.querySelectorAll('[aria-live], [role=status], [role=alert], [role=log]')) {
			new MutationObserver(() => said.push(region.textContent)).observe(region, {childList: true, characterData: true, subtree: true});
		}
	})()`)
	for i := range 40 {
		s.happen(time.Now(), "failover", "llm", object{"endpoint": "openai", "to": "anthropic", "reason": "status"})
		if i%10 == 0 {
			s.happen(time.Now(), "breaker_opened", "llm", object{"endpoint": "anthropic", "reason": "consecutive_failures"})
		}
	}
	tab.Until(20*time.Second, "said.length > 0")
	tab.Until(10*time.Second, "document.querySelector('.events').textContent.includes('70 failovers')") // and 30 before
	if said := chromium.Eval[[]string](tab, "said"); len(said) > 2 || !slices.Contains(said, "llm: anthropic is out. llm: anthropic is out. llm: anthropic is out") {
		t.Errorf("a screen reader reads 44 events as %q", said)
	}
}

// TestFiftyEndpointsKeepTheBrowserCalm checks that 50 endpoints whose numbers all change each second
// take little time of the main thread, as cards and as a table.
func TestFiftyEndpointsKeepTheBrowserCalm(t *testing.T) {
	browser := chromium.Start(t)
	address := serve(t, crowd(50))
	for view, shown := range map[string]string{"cards": ".card", "table": ".dense tbody tr"} {
		t.Run(view, func(t *testing.T) {
			tab := browser.For(t).Open(address+"?view="+view, desktop)
			tab.Until(30*time.Second, fmt.Sprintf("document.querySelectorAll(%q).length === 50 && %s", shown, live))
			if view == "cards" {
				tab.Until(30*time.Second, charted)
			}
			const seconds = 6
			best := 1.0
			for range 5 { // the machine may have other work
				at := chromium.Eval[string](tab, "document.querySelector('.clock').dateTime")
				before := tab.Busy()
				began := time.Now()
				// Wait within the page, because each evaluation costs the page time.
				chromium.Eval[any](tab, fmt.Sprintf("new Promise((done) => setTimeout(done, %d)).then(() => null)", seconds*1000))
				part := (tab.Busy() - before).Seconds() / time.Since(began).Seconds()
				if shown := chromium.Eval[string](tab, "document.querySelector('.clock').dateTime"); shown == at {
					t.Fatalf("the page still shows %s", at)
				}
				t.Logf("50 endpoints: the main thread is busy %.1f %% of the time", 100*part)
				if best = min(best, part); best < 0.04 {
					break
				}
			}
			if best >= 0.06 { // an idle machine needs 4 %
				t.Errorf("50 endpoints keep the main thread busy %.1f %% of the time", 100*best)
			}
			tab.Shot("fifty-" + view + "-1440-light-en")
		})
	}
}

// TestPicture takes the README's picture:
//
//	FAILOVER_SCREENSHOTS=$PWD/docs go test -tags system -run Picture ./web
func TestPicture(t *testing.T) {
	address := serveAt(t, picture(time.Now()), "/")
	tab := chromium.Start(t).Open(address, chromium.Look{Width: 1280, Height: 900, Language: "en", Scale: 1.5})
	tab.Until(30*time.Second, allCharted+" && "+live+" && document.querySelector('.rate').textContent")
	tab.Shot("dashboard")
	behaved(t, tab, address)
}
