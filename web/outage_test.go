//go:build system

package web_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/apifailover/caddy-failover"
	"github.com/apifailover/caddy-failover/web/internal/chromium"
)

// startCaddy starts a Caddy with a site, and returns its socket.
func startCaddy(t *testing.T, site string) (socket string) {
	t.Helper()
	dir := t.TempDir()
	socket = filepath.Join(dir, "s")
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt(fmt.Appendf(nil, `{
		admin off
		persist_config off
		auto_https off
		log {
			output file %s
		}
	}
	http:// {
		bind unix/%s
		%s
	}`, filepath.Join(dir, "log"), socket, site), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := caddy.Load(config, true); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := caddy.Stop(); err != nil {
			t.Errorf("stopping Caddy: %v", err)
		}
	})
	return socket
}

// newUpstream starts an upstream that can be broken.
func newUpstream(t *testing.T, name string) (address string, broken *atomic.Bool) {
	broken = new(atomic.Bool)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if broken.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		fmt.Fprint(w, name)
	}))
	t.Cleanup(server.Close)
	return server.Listener.Addr().String(), broken
}

// load sends 60 requests per second to a socket until the test ends.
func load(t *testing.T, socket string) {
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}
	quit := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		ticker := time.NewTicker(time.Second / 60)
		defer ticker.Stop()
		for {
			select {
			case <-quit:
				return
			case <-ticker.C:
				running.Go(func() {
					if resp, err := client.Get("http://api.test/"); err == nil {
						resp.Body.Close()
					}
				})
			}
		}
	})
	t.Cleanup(func() {
		close(quit)
		running.Wait()
		client.CloseIdleConnections()
	})
}

// recordStates records the states of a card in window.seen. A reload would lose them.
const recordStates = `(() => {
	const card = [...document.querySelectorAll('.card')].find((c) => c.querySelector('h4').textContent === 'primary');
	window.seen = [[card.dataset.state, card.querySelector('.state').textContent]];
	new MutationObserver(() => {
		const now = [card.dataset.state, card.querySelector('.state').textContent];
		if (now[0] !== seen.at(-1)[0]) seen.push(now);
		else seen[seen.length - 1] = now;
	}).observe(card, {attributes: true, subtree: true, characterData: true, childList: true});
	window.primary = card;
})()`

// TestThePageFollowsAnOutage checks that the pages of four viewers follow an outage at a real proxy.
func TestThePageFollowsAnOutage(t *testing.T) {
	primary, broken := newUpstream(t, "primary")
	backup, _ := newUpstream(t, "backup")
	socket := startCaddy(t, `
		failover_dashboard
		failover {
			name api
			endpoint http://`+primary+` {
				name primary
			}
			endpoint http://someone:s3cret@`+backup+` {
				name backup
				header Authorization "Bearer t0ken"
			}
			breaker {
				open_for 8s
				step 2s
			}
		}`)
	line := newRelay(t, "unix", socket)
	address := "http://" + line.addr + "/failover"
	load(t, socket)

	browser := chromium.Start(t)
	type watcher struct {
		*chromium.Tab
		name     string
		language string
	}
	var watchers []watcher
	for _, look := range []chromium.Look{
		{Width: 1440, Height: 900, Language: "en"},
		{Width: 390, Height: 844, Language: "en", Dark: true},
		{Width: 1440, Height: 900, Language: "zh-CN", Dark: true},
		{Width: 390, Height: 844, Language: "zh-CN"},
	} {
		tab := browser.Open(address, look)
		tab.Until(30*time.Second, charted)
		chromium.Eval[any](tab, recordStates)
		watchers = append(watchers, watcher{tab, fmt.Sprintf("%d-%s", look.Width, look.Language), look.Language})
	}
	each := func(expression string) {
		t.Helper()
		for _, w := range watchers {
			w.Until(60*time.Second, expression)
		}
	}
	shoot := func(shot string) { // which takes long on a busy machine
		t.Helper()
		for _, w := range watchers {
			w.Shot("outage-" + shot + "-" + w.name)
		}
	}
	each("primary.querySelector('.share').textContent === '100%'")
	shoot("1-before")
	broken.Store(true)
	each("primary.dataset.state === 'open' && primary.querySelector('.share').textContent === '0%' && primary.querySelector('.progress').checkVisibility()")
	broken.Store(false) // before the first trial
	shoot("2-open")
	each("primary.dataset.state === 'recovering' && /^[1-9]/.test(primary.querySelector('.share').textContent)")
	shoot("3-recovering")
	each("primary.dataset.state === 'closed' && primary.querySelector('.share').textContent === '100%'")
	shoot("4-closed")

	words := map[string][]string{
		"en":    {"closed In service", "open Out", "recovering On trial", "closed In service"},
		"zh-CN": {"closed 正常服务", "open 已摘除", "recovering 试探中", "closed 正常服务"},
	}
	sentences := map[string][]string{
		"en":    {"primary is in service again", "primary is on trial", "primary is out", "primary → backup"},
		"zh-CN": {"primary 恢复服务", "primary 正在试探", "primary 已摘除", "primary → backup"},
	}
	for _, w := range watchers {
		seen := chromium.Eval[[][]string](w.Tab, "window.seen ?? []") // lost if the page was reloaded
		var got []string
		for _, s := range seen {
			got = append(got, strings.Join(s, " "))
		}
		if !slices.Equal(got, words[w.language]) {
			t.Errorf("%s: the card of primary went through %q, want %q", w.name, got, words[w.language])
		}
		// An incident is folded. The page draws its events when it is opened.
		w.Until(30*time.Second, "document.querySelector('.group[data-incident]')")
		chromium.Eval[any](w.Tab, "document.querySelectorAll('.group details').forEach((d) => { d.open = true })")
		w.Until(30*time.Second, "document.querySelectorAll('.group .event').length >= 4")
		events := chromium.Eval[[]string](w.Tab, "[...document.querySelectorAll('.events .what')].map((e) => e.textContent)")
		for _, sentence := range sentences[w.language] {
			if !slices.Contains(events, sentence) {
				t.Errorf("%s: no event %q among %q", w.name, sentence, events)
			}
		}
		if html := chromium.Eval[string](w.Tab, "document.documentElement.outerHTML"); strings.Contains(html, "s3cret") || strings.Contains(html, "t0ken") || strings.Contains(html, "someone") {
			t.Errorf("%s: the page shows a credential", w.name)
		}
		behaved(t, w.Tab, address)
	}
}
