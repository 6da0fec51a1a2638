package ops

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/apifailover/caddy-failover/internal/api"
	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/pool"
	"github.com/apifailover/caddy-failover/internal/target"
)

// newTestPool makes a pool with the endpoints one and two that ends with the test.
func newTestPool(t *testing.T, name string) *pool.Pool {
	t.Helper()
	p, err := pool.Load(name)
	if err != nil {
		t.Fatal(err)
	}
	h := &pool.Handler{Pool: p, Breaker: new(breaker.Defaults(2 * time.Second)), Longest: 2 * time.Second, Logger: zap.NewNop()}
	for _, name := range []string{"one", "two"} {
		h.Targets = append(h.Targets, &target.Target{Name: name, Address: name + ".test:80", Priority: 1, Weight: 1})
	}
	if err := p.Attach(h, h); err != nil {
		t.Fatal(err)
	}
	h.GoLive()
	p.Tick(time.Now()) // builds the table
	t.Cleanup(func() {
		p.Detach(h)
		_, _ = pool.Pools.Delete(name)
	})
	return p
}

// pull sends a body to levers as a user.
func pull(l levers, user, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, "/failover/actions", strings.NewReader(body))
	repl := caddy.NewReplacer()
	if user != "" {
		repl.Set("http.auth.user.id", user)
	}
	w := httptest.NewRecorder()
	l.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), caddy.ReplacerCtxKey, repl)))
	return w
}

func TestLeversActAndUndo(t *testing.T) {
	newTestPool(t, "levers")
	l := levers{defaultUser}
	status := func() api.EndpointStatus { return pool.Find("levers").Status(time.Now()).Endpoints[0] }
	steps := []struct {
		action, fields string
		want           func(api.EndpointStatus) bool
	}{
		{"drain", `{"reason": "new driver"}`, func(e api.EndpointStatus) bool {
			return e.Draining && e.Operator.Reason == "new driver (ada)"
		}},
		{"undo", `{"reason": "done"}`, func(e api.EndpointStatus) bool { return !e.Draining && e.Operator == nil }},
		{"trip", `{"reason": "bad data", "for": "10m"}`, func(e api.EndpointStatus) bool {
			return e.State == "forced_open" && !e.Operator.Until.IsZero()
		}},
		{"enable", `{"reason": "try it", "for": "5m"}`, func(e api.EndpointStatus) bool { return e.State == "forced_closed" }},
		{"set", `{"reason": "quota", "weight": 3}`, func(e api.EndpointStatus) bool { return e.Override.Weight.Value == 3 }},
		{"set", `{"reason": "quota", "priority": 2}`, func(e api.EndpointStatus) bool { return true }},
		{"undo", `{"reason": "all over"}`, func(e api.EndpointStatus) bool {
			return e.Operator == nil && e.Override == nil && e.Weight == 1 && e.Priority == 1
		}},
	}
	for _, s := range steps {
		w := pull(l, "ada", `{"pool": "levers", "endpoint": "one", "action": "`+s.action+`", "fields": `+s.fields+`}`)
		if w.Code != http.StatusOK {
			t.Fatalf("%s: %d %s", s.action, w.Code, w.Body)
		}
		var e api.EndpointStatus
		for _, one := range pool.Find("levers").Status(time.Now()).Endpoints {
			if one.Name == "one" {
				e = one
			}
		}
		if !s.want(e) {
			t.Errorf("after %s: %+v", s.action, e)
		}
	}
	if e := status(); e.Name != "one" {
		t.Errorf("the first endpoint is %s", e.Name)
	}
}

// TestLeversRefuse checks that bad requests are refused and change nothing.
func TestLeversRefuse(t *testing.T) {
	p := newTestPool(t, "refusing")
	const one = `"pool": "refusing", "endpoint": "one"`
	for _, c := range []struct {
		user, body string
		want       int
		says       string
	}{
		{"", `{` + one + `, "action": "trip", "fields": {"reason": "x"}}`, 403, "authenticated user"},
		{"  ", `{` + one + `, "action": "trip", "fields": {"reason": "x"}}`, 403, "authenticated user"},
		{"ada", `{` + one + `, "action": "trip", "fields": {}}`, 400, "reason"},
		{"ada", `{` + one + `, "action": "trip"}`, 400, "reason"},
		{"ada", `{` + one + `, "action": "trip", "fields": {"reason": " \n"}}`, 400, "reason"},
		{"ada", `{` + one + `, "action": "undo", "fields": {"reason": "x"}}`, 409, "nothing to undo"},
		{"ada", `{` + one + `, "action": "undo"}`, 400, "reason"},
		{"ada", `{` + one + `, "action": "explode", "fields": {"reason": "x"}}`, 400, "action"},
		{"ada", `{` + one + `, "action": "set", "fields": {"reason": "x"}}`, 400, "weight"},
		{"ada", `{` + one + `, "action": "set", "fields": {"reason": "x", "weight": -1}}`, 400, "weight"},
		{"ada", `{` + one + `, "action": "drain", "fields": {"reason": "x", "for": "-1s"}}`, 400, "for"},
		{"ada", `{` + one + `, "action": "drain", "fields": {"reason": "x", "more": 1}}`, 400, "more"},
		{"ada", `{` + one + `, "action": "drain", "fields": {"reason": "x", "where": "fleet"}}`, 409, "no fleet"},
		{"ada", `{"pool": "other", "endpoint": "one", "action": "trip", "fields": {"reason": "x"}}`, 404, "other"},
		{"ada", `{"pool": "refusing", "endpoint": "three", "action": "trip", "fields": {"reason": "x"}}`, 404, "three"},
		{"ada", `{"pool": "refusing", "endpoint": "three", "action": "undo", "fields": {"reason": "x"}}`, 404, "three"},
		{"ada", `pool=refusing&endpoint=one&action=trip`, 400, "body"},
		{"ada", ``, 400, "body"},
		{"ada", `[]`, 400, "body"},
		{"ada", `{"fields": {"reason": "` + strings.Repeat("x", maxOrder) + `"}}`, 413, "body"},
	} {
		w := pull(levers{defaultUser}, c.user, c.body)
		var answer struct{ Error string }
		if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil || w.Code != c.want || !strings.Contains(answer.Error, c.says) {
			t.Errorf("%.90s: %d %s, want %d with %q", c.body, w.Code, w.Body, c.want, c.says)
		}
	}
	for _, e := range p.Status(time.Now()).Endpoints {
		if e.Operator != nil || e.Override != nil || e.State != "closed" {
			t.Errorf("endpoint %s was changed: %+v", e.Name, e)
		}
	}
}

func TestReasonsAreSignedWithinTheirSize(t *testing.T) {
	for _, c := range [][2]string{{"short", "ada"}, {strings.Repeat("长", 400), "ada"}, {"short", strings.Repeat("ü", 400)}, {strings.Repeat("长", 400), strings.Repeat("ü", 400)}} {
		got := signed(c[0], c[1])
		if len(got) > api.MaxReason || !strings.HasSuffix(got, ")") || strings.Contains(got, "\ufffd") {
			t.Errorf("%d bytes: %s", len(got), got)
		}
	}
}

// TestDetails checks that a detail is reused, and that unknown pools and endpoints have none.
func TestDetails(t *testing.T) {
	newTestPool(t, "detailed")
	now := time.Now()
	first := detailOf(now, "detailed", "one")
	if first == nil || detailOf(now.Add(detailFor/2), "detailed", "one") != first {
		t.Error("a detail is made again within its time")
	}
	if detailOf(now.Add(detailFor), "detailed", "one") == first {
		t.Error("a detail outlives its time")
	}
	for _, c := range [][2]string{{"", ""}, {"other", ""}, {"other", "one"}, {"detailed", "three"}} {
		if got := detailOf(now, c[0], c[1]); got != nil {
			t.Errorf("a detail of %q: %v", c, got)
		}
	}
	if got := detailOf(now, "detailed", "").(*detail); got.Budget != nil || got.Spans != nil || len(first.(*detail).Spans) != len(spans) {
		t.Errorf("the pool's detail is %+v", got)
	}
}
