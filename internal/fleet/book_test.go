package fleet

import (
	"fmt"
	"testing"
	"time"
)

// TestScopesLeaveRoomForEndpoints: however many scopes others tell of, what they tell of whole
// endpoints is remembered.
func TestScopesLeaveRoomForEndpoints(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	id := NewIdentifier("eu", "").ID("api", "https://api.example.com", "")
	var b Book
	for i := range maxFacts {
		f := Fact{Kind: Hold, Instance: "a", Boot: "B", Serial: 1, Endpoint: id, Scope: fmt.Sprint("scope-", i), Left: time.Minute}
		if took := b.Take(&f, now); took != (i < maxScoped) {
			t.Fatalf("scope %d is news: %v", i, took)
		}
	}
	for i := range maxFacts - maxScoped {
		f := Fact{Kind: Hold, Instance: fmt.Sprint("instance-", i), Boot: "B", Serial: 1, Endpoint: id, Left: time.Minute}
		if !b.Take(&f, now) {
			t.Fatalf("the hold of instance %d is not remembered", i)
		}
	}
	if b.Take(&Fact{Kind: Hold, Instance: "b", Boot: "B", Serial: 1, Endpoint: id, Left: time.Minute}, now) {
		t.Error("more is remembered than there is room for")
	}
	if n := len(b.AboutScope(id, "scope-7", now)); n != 1 {
		t.Errorf("%d facts are about one scope", n)
	}
	if n := len(b.About(id, now)); n != maxFacts {
		t.Errorf("%d facts are about the endpoint", n)
	}
	b.Forget(now.Add(2 * time.Minute))
	if !b.Take(&Fact{Kind: Hold, Instance: "a", Boot: "B", Serial: 2, Endpoint: id, Scope: "new", Left: time.Minute}, now.Add(2*time.Minute)) {
		t.Error("what is over takes room")
	}
}

// TestNoOrderIsTheLast checks that a stranger cannot tell an order that none can follow, and that a clock may be wrong by decades.
func TestNoOrderIsTheLast(t *testing.T) {
	now, b := time.Now(), new(Book)
	order := func(version uint64) *Fact {
		return &Fact{Kind: Order, Slot: Steering, Endpoint: "e", Instance: "a", Version: version, Left: time.Hour}
	}
	if b.Take(order(1<<62), now) {
		t.Error("it took an order of the far future")
	}
	right, wrong := uint64(now.UnixMilli()), time.Date(1970, 1, 1, 1, 0, 0, 0, time.UTC)
	if !b.Take(order(right), wrong) {
		t.Error("an instance without a clock took no order of one that has the time")
	}
	if far := right + 50*365*24*3600*1000; !b.Take(order(far), now) || !b.Take(order(far+1), now) {
		t.Error("no order can follow one of the future")
	}
	for range 1000 { // a stranger's orders, each as late as it may be
		for step := uint64(maxAhead); step > 0; step /= 10 {
			for b.Take(order(b.Version("e", Steering)+step), now) && step > maxStep {
				continue
			}
		}
	}
	latest := b.Version("e", Steering)
	if years := (latest - right) / (365 * 24 * 3600 * 1000); years > 101 {
		t.Errorf("a stranger's orders are %d years ahead", years)
	}
	if !b.Take(order(latest+1), now) {
		t.Error("no order can follow a stranger's")
	}
}

func TestHowManyMustAgree(t *testing.T) {
	for _, c := range []struct {
		open, fails, active int // of the others
		idle, own, fails1   bool
	}{
		{1, 0, 1, false, false, false},
		{2, 0, 2, true, true, true},
		{2, 0, 3, true, true, true},
		{2, 0, 4, true, false, true},
		{2, 0, 5, false, false, true},
		{2, 0, 6, false, false, false},
		{1, 1, 2, false, false, false},
		{0, 2, 2, false, false, false},
		{0, 3, 3, true, true, true},
		{1, 2, 6, true, false, true},
		{0, 49, 99, false, false, true},
		{0, 50, 99, true, true, true},
		{0, 0, 0, false, false, false},
	} {
		o := Opinion{Open: c.open, Fails: c.fails, Active: c.active, Others: c.active}
		if o.Agrees(false) != c.idle || o.Agrees(true) != c.own || o.AgreesWith() != c.fails1 {
			t.Errorf("%+v: an idle one is wary: %v, one with calls: %v, one whose calls fail: %v", o, o.Agrees(false), o.Agrees(true), o.AgreesWith())
		}
	}
}

// TestWhoHasCalls: instances count for the scopes and endpoints that they say had calls, and for
// those for which their Hello has no room.
func TestWhoHasCalls(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	ids := NewIdentifier("eu", "")
	id, other := ids.ID("api", "https://a.example.com", ""), ids.ID("api", "https://b.example.com", "")
	list := func(n int, one func(i int) string) (places []string) {
		for i := range n {
			places = append(places, Short(one(i)))
		}
		return places
	}
	endpoint := func(i int) string { return ids.ID("api", fmt.Sprint(i), "") }
	scope := func(i int) string { return Place(id, fmt.Sprint(i)) }
	for name, c := range map[string]struct {
		active                               []string
		whole, unused, large, ofOther, small bool
	}{
		"nothing":            {},
		"the endpoint":       {active: list(1, func(int) string { return id }), whole: true},
		"the scope":          {active: []string{Short(id), Short(Place(id, "large"))}, whole: true, large: true},
		"as many endpoints":  {active: list(maxActive, endpoint), whole: true, unused: true, large: true, ofOther: true, small: true},
		"as many scopes":     {active: append([]string{Short(id)}, list(maxActive-1, scope)...), whole: true, large: true, small: true},
		"nearly as many":     {active: append([]string{Short(id)}, list(maxActive-2, scope)...), whole: true},
		"scopes of no calls": {active: list(3, scope)},
	} {
		var b Book
		b.Take(&Fact{Kind: Hello, Instance: "a", Boot: "B", Serial: 1, Left: time.Minute, Active: c.active}, now)
		for _, ask := range []struct {
			id, scope string
			want      bool
		}{{id, "", c.whole}, {other, "", c.unused}, {id, "large", c.large}, {other, "large", c.ofOther}, {id, "small", c.small}} {
			if got := b.Opinion(ask.id, ask.scope, now).Active == 1; got != ask.want {
				t.Errorf("%s: calls at %s of %q: %v", name, ask.id, ask.scope, got)
			}
		}
	}
}

// TestBreakersEndWithTheirProcess: what a process told of its breakers does not count for the next one of its instance.
func TestBreakersEndWithTheirProcess(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	id := NewIdentifier("eu", "").ID("api", "https://api.example.com", "")
	var b Book
	hello := func(boot string) {
		b.Take(&Fact{Kind: Hello, Instance: "a", Boot: boot, Serial: 1, Left: time.Minute}, now)
	}
	opens := func(boot, scope string) {
		b.Take(&Fact{Kind: Breaker, State: Opened, Instance: "a", Boot: boot, Serial: 2, Endpoint: id, Scope: scope, Left: time.Minute}, now)
	}
	want := func(what string, open int) {
		t.Helper()
		for _, scope := range []string{"", "large"} {
			if o := b.Opinion(id, scope, now); o.Open != open {
				t.Errorf("%s: %+v of scope %q", what, o, scope)
			}
		}
		if scopes := len(b.OpenScopes(id, now)); scopes != open || len(b.OpenAt(now)["a"]) != 2*open {
			t.Errorf("%s: %d scopes are open, and %v", what, scopes, b.OpenAt(now))
		}
	}
	opens("one", "")
	opens("one", "large")
	want("before its Hello", 0)
	hello("one")
	want("with its Hello", 1)
	hello("two")
	want("after a restart", 0)
	opens("two", "")
	opens("two", "large")
	want("once the new process has opened", 1)
}
