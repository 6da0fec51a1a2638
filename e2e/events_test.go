package e2e

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// A subscriber is a handler of Caddy's events app. The test sets what it does.
type subscriber struct{}

var subscribed struct {
	sync.Mutex
	handle func(caddy.Event)
}

func init() { caddy.RegisterModule(subscriber{}) }

func (subscriber) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "events.handlers.test", New: func() caddy.Module { return new(subscriber) }}
}

func (*subscriber) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	for d.Next() {
	}
	return nil
}

func (subscriber) Handle(_ context.Context, e caddy.Event) error {
	subscribed.Lock()
	handle := subscribed.handle
	subscribed.Unlock()
	if handle != nil {
		handle(e)
	}
	return nil
}

func subscribe(t *testing.T, handle func(caddy.Event)) {
	set := func(f func(caddy.Event)) {
		subscribed.Lock()
		subscribed.handle = f
		subscribed.Unlock()
	}
	set(handle)
	t.Cleanup(func() { set(nil) })
}

const subscribeToAll = "	events {\n		on * test\n	}"

// TestCaddyEvents checks that a subscriber of Caddy's events app gets events before and after reloads,
// also after reloads that fail.
func TestCaddyEvents(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	options := "\n\tbreaker {\n\t\tconsecutive_failures 1\n\t\topen_for 50ms\n\t}"
	p := startCaddy(t, site(options, one, two))
	var mu sync.Mutex
	seen := make(map[string][]caddy.Event)
	subscribe(t, func(e caddy.Event) {
		mu.Lock()
		seen[e.Name()] = append(seen[e.Name()], e)
		mu.Unlock()
	})
	last := func(kind string, more int) (found caddy.Event) {
		t.Helper()
		eventually(t, fmt.Sprint(more, " more of ", kind), func() bool {
			mu.Lock()
			defer mu.Unlock()
			if len(seen[kind]) < more {
				return false
			}
			found = seen[kind][len(seen[kind])-1]
			return true
		})
		return found
	}
	forget := func() {
		mu.Lock()
		clear(seen)
		mu.Unlock()
	}
	failAndRecover := func() {
		t.Helper()
		one.answer(http.StatusBadGateway)
		p.get()
		e := last("failover", 1)
		want := map[string]any{"pool": "api", "endpoint": "one", "to": "two", "reason": "status", "count": 1, "attempt": 1}
		for name, value := range want {
			if e.Data[name] != value {
				t.Errorf("failover: %s is %v, want %v", name, e.Data[name], value)
			}
		}
		if origin := e.Origin().CaddyModule().ID; origin != "http.reverse_proxy.selection_policies.failover.events" {
			t.Errorf("the origin is %s", origin)
		}
		if e := last("breaker_opened", 1); e.Data["endpoint"] != "one" || e.Data["reason"] != "consecutive_failures" {
			t.Errorf("breaker_opened: %v", e.Data)
		}
		one.behave(one.fine)
		eventually(t, "the primary is back", func() bool {
			p.get()
			return p.endpoint("api", "one").State == "closed"
		})
		last("breaker_recovering", 1)
		last("breaker_closed", 1)
	}
	// many handlers after the policy: they must not become the origin
	more := site(options, one, two) + `
handle /x* {
	header X 1
	rewrite /y
	respond 200
}
reverse_proxy /z ` + two.address + ` {
	lb_policy random
	@gone status 404
	handle_response @gone {
		respond 410
	}
}`
	if err := p.loadWith(subscribeToAll, more); err != nil {
		t.Fatal(err)
	}
	failAndRecover()
	forget()
	// a reload that fails late: the listener's address is wrong
	if err := p.loadWith(subscribeToAll, more+"\nbind unix//nowhere/x"); err == nil {
		t.Fatal("a bad configuration was loaded")
	}
	failAndRecover()
	forget()
	if err := p.loadWith(subscribeToAll, site(options, one, two)); err != nil {
		t.Fatal(err)
	}
	failAndRecover()
}

// TestBadSubscribers checks that subscribers that hang or panic do not affect calls.
func TestBadSubscribers(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	p := startCaddy(t, site("", one, two))
	if err := p.loadWith(subscribeToAll, site("", one, two)); err != nil {
		t.Fatal(err)
	}
	release := make(chan struct{})
	var once sync.Once
	entered := make(chan struct{})
	panicked := make(chan struct{}, 100)
	subscribe(t, func(e caddy.Event) {
		switch e.Name() {
		case "failover":
			once.Do(func() { close(entered) })
			<-release
		case "breaker_opened":
			panicked <- struct{}{}
			panic("a subscriber of the test")
		}
	})
	one.answer(http.StatusBadGateway)
	p.get()
	receiveEnd(t, "the subscriber has the event", entered)
	for range 50 { // the breaker opens meanwhile
		if got := p.get(); got.status != 200 || got.body != "two" {
			t.Fatalf("got %+v", got)
		}
	}
	if len(panicked) > 0 {
		t.Error("the second event came before the first was dealt with")
	}
	close(release)
	receive(t, "the event after the one that hung", panicked)
	one.answer(http.StatusOK)
	recovered := make(chan struct{}, 100)
	subscribe(t, func(e caddy.Event) {
		if e.Name() == "breaker_recovering" {
			recovered <- struct{}{}
		}
	})
	for _, action := range []string{"trip", "enable"} {
		p.order(http.MethodPost, "api/endpoints/one/"+action, "")
	}
	receive(t, "an event after the panic", recovered)
}

// TestAllDownIsAnEvent checks that there is one event each time that the last endpoint goes out.
func TestAllDownIsAnEvent(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	p := startCaddy(t, strings.Replace(site("\n\tbreaker {\n\t\tconsecutive_failures 1\n\t\topen_for 100ms\n\t}\n\tretry {\n\t\tmethods any\n\t}", one, two), "name api", "name alldown", 1))
	stream := p.follow("/failover/events?pool=alldown")
	for range 2 {
		one.down()
		two.down()
		eventually(t, "the pool is down", func() bool { p.get(); return p.pool("alldown").Down })
		for {
			e, _ := next(t, stream)
			if e.Kind != "all_down" {
				continue
			}
			if e.Pool != "alldown" || e.Reason != "breaker" || e.Details["endpoints"] != 2.0 || e.Count != 1 {
				t.Errorf("got %+v", e)
			}
			break
		}
		one.up(t, one.address)
		two.up(t, two.address)
		eventually(t, "the pool is up", func() bool { p.get(); return !p.pool("alldown").Down })
	}
}
