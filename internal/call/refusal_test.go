package call

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/apifailover/caddy-failover/internal/pool"
)

func TestAcceptsJSON(t *testing.T) {
	for accept, want := range map[string]bool{
		"":                                     true,
		"*/*":                                  true,
		"application/json":                     true,
		"APPLICATION/JSON; charset=utf-8":      true,
		"text/event-stream, application/json":  true,
		"application/vnd.api+json":             true,
		"application/*;q=0.5":                  true,
		"text/plain;q=0.9, */*;q=0.1":          true,
		"text/html,application/xml;q=0.9,*/*":  false,
		"text/html, application/json;q=0.1":    true,
		"text/plain":                           false,
		"text/event-stream":                    false,
		"application/json;q=0":                 false,
		"application/json;q=0.000, text/plain": false,
		"image/svg+json":                       false,
	} {
		if got := acceptsJSON(http.Header{"Accept": {accept}}); got != want {
			t.Errorf("%q: got %t, want %t", accept, got, want)
		}
	}
	if !acceptsJSON(http.Header{}) || !acceptsJSON(http.Header{"Accept": {"text/html", "application/json"}}) {
		t.Error("no Accept, or two fields of it, should allow JSON")
	}
}

func TestRefusalAnswers(t *testing.T) {
	for kind, want := range map[pool.Refusal]struct {
		status     int
		kind, code string
	}{
		pool.AllDown: {503, "service_unavailable", "all_down"},
		pool.AllHeld: {429, "rate_limit_exceeded", "all_held"},
		pool.Full:    {503, "service_unavailable", "full"},
	} {
		refused := &refusal{kind: kind, retryAfter: 7, pool: `the "API"`}
		c := &Call{Handler: new(Handler)}
		r := httptest.NewRequest("GET", "/", nil)
		resp := c.says(r, refused.said(), acceptsJSON(r.Header))
		text, _ := io.ReadAll(resp.Body)
		var body struct {
			Error struct{ Message, Type, Code string }
		}
		if err := json.Unmarshal(text, &body); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if e := body.Error; resp.StatusCode != want.status || e.Type != want.kind || e.Code != want.code ||
			!strings.Contains(e.Message, "7 s") || resp.Header.Get("Retry-After") != "7" || resp.ContentLength != int64(len(text)) {
			t.Errorf("%s: got %d %v %s", kind, resp.StatusCode, resp.Header, text)
		}
		r.Header.Set("Accept", "text/html")
		resp = c.says(r, refused.said(), acceptsJSON(r.Header))
		if text, _ := io.ReadAll(resp.Body); json.Valid(text) || !strings.Contains(string(text), refused.Error()) || resp.Header.Get("Retry-After") != "7" {
			t.Errorf("%s: got %v %s", kind, resp.Header, text)
		}
	}
}
