package web_test

import (
	"fmt"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/apifailover/caddy-failover/web"
	"github.com/apifailover/caddy-failover/web/internal/chromium"
)

// serve serves a page that shows a scene.
func serve(t testing.TB, s *scene) (address string) {
	t.Helper()
	page, err := web.NewPage("/failover", web.NewFeed(s.source()))
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(page)
	t.Cleanup(func() {
		page.Close()
		server.Close()
	})
	return server.URL + "/failover"
}

const (
	charted    = `document.querySelector('.canvas canvas')`
	allCharted = `document.querySelector('.canvas') && !document.querySelector('.canvas:not(:has(canvas))')`
)

func TestEveryStateLooksRight(t *testing.T) {
	browser := chromium.Start(t)
	for _, width := range []int{1440, 390} {
		for _, dark := range []bool{false, true} {
			for _, language := range []string{"en", "zh-CN"} {
				theme := map[bool]string{false: "light", true: "dark"}[dark]
				tab := browser.Open(serve(t, showcase(time.Now())), chromium.Look{Width: width, Height: 900, Dark: dark, Language: language})
				tab.Until(20*time.Second, charted)
				tab.FullShot(fmt.Sprintf("states-%d-%s-%s", width, theme, language), allCharted)
				if problems := tab.Problems(); len(problems) > 0 {
					t.Errorf("%d %s %s: %q", width, theme, language, problems)
				}
			}
		}
	}
}
