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
