package e2e

import (
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestALimitIsKept checks that calls beyond an endpoint's limit go to the next endpoint, that this is no failure and no
// event, and that a reload does not reset the limit.
func TestALimitIsKept(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	config := edited("api", "", []*api{one, two}, "limit 5 requests per 1h burst 5")
	p := startCaddy(t, config)
	before := p.newestEvent()
	for i := range 20 {
		want := "one"
		if i >= 5 {
			want = "two"
		}
		p.get().want(t, "call", 200, want)
	}
	p.reload(config)
	p.get().want(t, "after a reload", 200, "two")
	status := p.one("one")
	if status.State != "closed" || status.Failures != 0 || status.Attempts != 5 {
		t.Errorf("the endpoint is %+v", status)
	}
	for _, e := range p.events(before) {
		t.Errorf("event %+v", e)
	}
	if text := p.readText("/failover/pools/api"); !strings.Contains(text, `"limits":[{"amount":5,"of":"requests","per_seconds":3600,"left":0}]`) {
		t.Errorf("the status does not show what is left of the limit: %s", text)
	}
	if text := p.readText("/metrics"); !strings.Contains(text, `caddy_failover_endpoint_limit_left{amount="5",endpoint="one",of="requests",per="3600",pool="api"} 0`) {
		t.Error("no metric shows what is left of the limit")
	}
}

// TestAllLimitsUsedUp checks that the client gets 429 with a Retry-After, and that the pool is not down.
func TestAllLimitsUsedUp(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	p := startCaddy(t, edited("api", "", []*api{one, two}, "limit 1 requests per 100s", "limit 1 requests per 50s\nlimit 100 requests per 1s"))
	began := time.Now()
	p.gets(2)
	got := p.get()
	after, _ := strconv.Atoi(got.header.Get("Retry-After"))
	if least := 50 - int(time.Since(began).Seconds()); got.status != http.StatusTooManyRequests || after < least || after > 50 {
		t.Errorf("got %+v, want 429 with Retry-After %d to 50", got, least)
	}
	if one.hits.Load()+two.hits.Load() != 2 {
		t.Errorf("the endpoints got %d and %d calls", one.hits.Load(), two.hits.Load())
	}
	if p.pool("api").Down {
		t.Error("the pool is down")
	}
}

// TestCallsWaitForALimit checks that waiting calls are all served as the limit allows.
func TestCallsWaitForALimit(t *testing.T) {
	one := newAPI(t, "one")
	p := startCaddy(t, edited("api", "all_down wait 30s", []*api{one}, "limit 10 requests per 1s"))
	var answers []<-chan string
	for range 12 {
		answers = append(answers, p.waiting(http.MethodGet, "/"))
	}
	for _, answer := range answers {
		if got := receive(t, "an answer", answer); got != "200 one" {
			t.Errorf("got %s", got)
		}
	}
}
