//go:build system

package web_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/apifailover/caddy-failover/internal/sla"
	"github.com/apifailover/caddy-failover/web/internal/chromium"
)

// TestTheReportIsWhole checks a report of three days in every look, with names that contain HTML.
func TestTheReportIsWhole(t *testing.T) {
	const evil = "<b>one</b>&\"a-very-long-name-without-any-place-to-break-it-in-two-lines-at-all"
	var history sla.History
	now := time.Now()
	for i := range 3 * 24 * 60 {
		at := now.Add(time.Duration(i-3*24*60) * time.Minute)
		outcome := sla.Outcome{Latency: time.Duration(200+i%90*9) * time.Millisecond}
		history.Endpoint("two").Record(at, outcome)
		history.Pool().Record(at, outcome)
		if i/60 == 30 {
			outcome = sla.Outcome{Kind: sla.Timeout}
			history.Pool().Record(at, outcome)
		}
		history.Endpoint(evil).Record(at, outcome)
		history.RecordFailovers(at, evil, "two", 1)
		if i == 30*60 || i == 31*60 {
			history.Endpoint(evil).SetDown(at, i == 30*60, "consecutive_failures")
		}
	}
	report := sla.NewReport(sla.Query{
		Pool: evil, From: now.Add(-72 * time.Hour), To: now, Now: now,
		Objective: sla.Objective{Availability: 0.999, LatencyTarget: 900 * time.Millisecond, LatencyQuantile: 0.95},
	}, history.Snapshot(now))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		page := report
		page.Language = sla.Language(r.URL.Query().Get("lang"))
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		if err := page.WriteHTML(w); err != nil {
			t.Error(err)
		}
	}))
	defer server.Close()
	browser := chromium.Start(t)
	for _, look := range looks() {
		tab := browser.Open(server.URL+"?lang="+look.Language, look)
		tab.Until(30*time.Second, "document.readyState === 'complete' && document.querySelectorAll('figure svg').length === 4")
		tab.FullShot(nameOf("report", look), "true")
		if too := chromium.Eval[string](tab, wider); too != "" {
			t.Errorf("%s: wider than the window: %s", nameOf("report", look), too)
		}
		if look.Language != "en" {
			if words := chromium.Eval[string](tab, `document.body.innerText.match(/[a-z]{4,} [a-z]{3,}/gi)?.join(' | ') ?? ''`); words != "" {
				t.Errorf("words that are not in Chinese: %s", words)
			}
		}
		if dark := chromium.Eval[string](tab, "getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"; dark != look.Dark {
			t.Errorf("%s: dark is %v", nameOf("report", look), dark)
		}
		accessible(t, tab)
	}
}
