package fleet

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
)

// someFacts is one fact of each kind, as an instance tells it.
func someFacts() []Fact {
	id := NewIdentifier("eu", "s3cret").ID("api", "https://api.example.com/v1", "Bearer sk-1")
	facts := []Fact{
		{Kind: Hold, Endpoint: id, Left: 30 * time.Second, Reason: "rate_limited", Scope: "gpt-4o", Pool: "api", Name: "one"},
		{Kind: Order, Endpoint: id, Left: MaxOrder, Slot: Steering, State: "drain", Reason: "maintenance", Version: 7, Lasts: time.Hour},
		{Kind: Order, Endpoint: id, Left: time.Hour, Slot: Priority, Value: 2, Version: 8},
		{Kind: Order, Endpoint: id, Left: time.Hour, Slot: Weight, Undone: true, Version: 9},
		{Kind: Breaker, Endpoint: id, Left: time.Minute, State: Opened, Reason: "consecutive_failures", Pool: "api", Name: "one"},
		{Kind: Breaker, Endpoint: id, Left: time.Minute, State: Recovering, Scope: "gpt-4o mini"},
		{Kind: Breaker, Endpoint: id, Left: 10 * time.Second, State: Failing},
		{Kind: Trial, Endpoint: id, Left: time.Second},
		{Kind: Trial, Endpoint: id, Left: time.Second, Scope: strings.Repeat("s", MaxScope)},
		{Kind: Demand, Endpoint: id, Left: 3 * time.Second, Need: 0.5, Part: 0.25},
		{Kind: Event, Pool: "api", Name: "one", What: "failover", To: "two", Count: 3, Age: time.Second, Incident: 7,
			Scope: "gpt-4o", Details: map[string]any{"cause": "503", "seconds": 29.999999, "failures": 5.0, "late": true}},
		{Kind: Hello, Left: 3 * time.Second, Every: time.Second, Release: "v1.2.3", Active: []string{Short(id), Short(Place(id, "gpt-4o"))}},
		{Kind: Bye},
	}
	for i := range facts {
		facts[i].Instance, facts[i].Boot, facts[i].Serial = "edge-1", "ABCDEFGHIJKL", uint64(i+1)
	}
	return facts
}

func TestFactsArriveAsTheyWereTold(t *testing.T) {
	for _, secret := range []string{"", "s3cret"} {
		c := NewCodec("eu", secret)
		for _, f := range someFacts() {
			data, err := c.Encode(&f)
			if err != nil {
				t.Fatal(err)
			}
			got, err := c.Decode(data)
			if err != nil {
				t.Fatalf("%s: %v", data, err)
			}
			if !reflect.DeepEqual(got, f) {
				t.Errorf("got %+v, told %+v", got, f)
			}
			if bytes.Contains(data, []byte("sk-1")) || bytes.Contains(data, []byte("example.com")) {
				t.Errorf("%s names the endpoint's URL or its credentials", data)
			}
		}
	}
}

func TestFactsOfOthersFleetsAreNoFacts(t *testing.T) {
	f := someFacts()[0]
	signed, err := NewCodec("eu", "s3cret").Encode(&f)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := NewCodec("eu", "").Encode(&f)
	if err != nil {
		t.Fatal(err)
	}
	changed := bytes.Replace(bytes.Clone(signed), []byte("30000"), []byte("40000"), 1)
	for name, c := range map[string]struct {
		codec Codec
		data  []byte
	}{
		"another secret":    {NewCodec("eu", "other"), signed},
		"another fleet":     {NewCodec("us", "s3cret"), signed},
		"no signature":      {NewCodec("eu", "s3cret"), plain},
		"a changed fact":    {NewCodec("eu", "s3cret"), changed},
		"a secret too much": {NewCodec("eu", ""), signed},
	} {
		if _, err := c.codec.Decode(c.data); !errors.Is(err, ErrSignature) {
			t.Errorf("%s: got error %v", name, err)
		}
	}
}

func TestNoFactIsLargerThanAllowed(t *testing.T) {
	long := strings.Repeat("\u00e9\x00\"", 400)
	for _, f := range someFacts() {
		f.Reason, f.Pool, f.Name, f.Scope, f.To = long, long, long, long, long
		f.Details = map[string]any{"one": long, "two": long}
		c := NewCodec("eu", "s3cret")
		data, err := c.Encode(&f)
		if err != nil {
			t.Errorf("%s: %v", f.Kind, err)
			continue
		}
		if len(data) > MaxSize {
			t.Errorf("%s has %d bytes", f.Kind, len(data))
		}
		if _, err := c.Decode(data); err != nil {
			t.Errorf("%s: %v", f.Kind, err)
		}
	}
	f := someFacts()[11]
	f.Active = nil
	for range 200 {
		f.Active = append(f.Active, "abcdef")
	}
	if data, err := NewCodec("eu", "").Encode(&f); err != nil || len(data) > MaxSize {
		t.Errorf("a Hello of many endpoints has %d bytes, error %v", len(data), err)
	}
}

func TestStrangersFactsAreRefused(t *testing.T) {
	c := NewCodec("eu", "")
	head := `{"v":1,"i":"a","b":"B","s":1,`
	id := `"e":"AAAAAAAAAAAAAAAAAAAAAA",`
	for name, text := range map[string]string{
		"no JSON":                    `nonsense`,
		"another format":             `{"v":2,"k":"hello","i":"a","b":"B"}`,
		"an unknown kind":            head + `"k":"gossip"}`,
		"no instance":                `{"v":1,"k":"hello","b":"B"}`,
		"no process":                 `{"v":1,"k":"hello","i":"a"}`,
		"a hold of no endpoint":      head + `"k":"hold","l":1000}`,
		"a short endpoint":           head + `"k":"hold","e":"AAAA","l":1000}`,
		"a long hold":                head + id + `"k":"hold","l":300001}`,
		"a negative time":            head + id + `"k":"hold","l":-1}`,
		"an endless order":           head + id + `"k":"order","o":"state","l":99999999999999}`,
		"an unknown slot":            head + id + `"k":"order","o":"colour","l":1}`,
		"a priority of 0":            head + id + `"k":"order","o":"priority","l":1}`,
		"half a priority":            head + id + `"k":"order","o":"priority","x":1.5,"l":1}`,
		"a negative weight":          head + id + `"k":"order","o":"weight","x":-1,"l":1}`,
		"a huge weight":              head + id + `"k":"order","o":"weight","x":1e300,"l":1}`,
		"an unknown state":           head + id + `"k":"breaker","t":"ajar","l":1}`,
		"a part above the whole":     head + id + `"k":"demand","a":1.1,"l":1}`,
		"an event without a pool":    head + `"k":"event","h":"failover"}`,
		"an event of nothing":        head + `"k":"event","p":"api"}`,
		"an old event":               head + `"k":"event","p":"api","h":"failover","j":86400001}`,
		"a control character":        `{"v":1,"k":"hello","i":"a\u001b","b":"B"}`,
		"a change of direction":      `{"v":1,"k":"hello","i":"a\u202e","b":"B"}`,
		"a long name":                `{"v":1,"k":"hello","i":"` + strings.Repeat("a", 129) + `","b":"B"}`,
		"a detail that is too long":  head + `"k":"event","p":"api","h":"failover","+":{"a":"` + strings.Repeat("a", 129) + `"}}`,
		"a detail of two values":     head + `"k":"event","p":"api","h":"failover","+":{"a":["b","c"]}}`,
		"a detail of nothing":        head + `"k":"event","p":"api","h":"failover","+":{"a":null}}`,
		"a detail with details":      head + `"k":"event","p":"api","h":"failover","+":{"a":{"b":1}}}`,
		"a detail out of range":      head + `"k":"event","p":"api","h":"failover","+":{"a":1e400}}`,
		"a detail to be shown wrong": head + `"k":"event","p":"api","h":"failover","+":{"a":"b\u001b"}}`,
		"a late incident":            head + `"k":"event","p":"api","h":"failover","#":18446744073709551615}`,
		"a long scope of an event":   head + `"k":"event","p":"api","h":"failover","c":"` + strings.Repeat("a", 65) + `"}`,
		"an endpoint that is none":   head + `"k":"hello","g":["abc"]}`,
		"many endpoints":             head + `"k":"hello","g":[` + strings.Repeat(`"abcdef",`, 64) + `"abcdef"]}`,
		"a long scope":               head + id + `"k":"hold","l":1,"c":"` + strings.Repeat("a", 65) + `"}`,
		"a scope to be shown wrong":  head + id + `"k":"breaker","t":"open","l":1,"c":"a\u0007"}`,
		"a scope of two lines":       head + id + "\"k\":\"trial\",\"l\":1,\"c\":\"\u2028\"}",
		"an order for a scope":       head + id + `"k":"order","o":"state","l":1,"c":"a"}`,
		"a demand of a scope":        head + id + `"k":"demand","l":1,"c":"a"}`,
		"a scope of an instance":     head + `"k":"hello","c":"a"}`,
		"a late version":             head + id + `"k":"order","o":"state","w":18446744073709551615,"l":1}`,
	} {
		if f, err := c.Decode([]byte("." + text)); err == nil {
			t.Errorf("%s: got %+v", name, f)
		}
	}
	if _, err := c.Decode(nil); err == nil {
		t.Error("nothing is a fact")
	}
	if _, err := c.Decode(append([]byte("."), make([]byte, MaxSize)...)); err == nil {
		t.Error("a fact may be larger than allowed")
	}
}

// FuzzDecode: whatever a stranger writes is refused or within the bounds of a fact, and can be
// noted and told again.
func FuzzDecode(f *testing.F) {
	c := NewCodec("eu", "")
	for _, fact := range someFacts() {
		data, err := c.Encode(&fact)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(`.{"v":1,"k":"hold","i":"a","b":"B","e":"AAAAAAAAAAAAAAAAAAAAAA","l":1,"c":"other"}`))
	f.Add([]byte(`.{"v":1,"k":"hold","i":"a","b":"B","e":"AAAAAAAAAAAAAAAAAAAAAA","l":1}`))
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, data []byte) {
		fact, err := c.Decode(data)
		if err != nil {
			return
		}
		if fact.Left < 0 || fact.Left > MaxOrder || fact.Kind == Hold && fact.Left > MaxHold || len(fact.Active) > maxActive ||
			len(fact.Scope) > MaxScope || fact.Scope != "" && !fact.Kind.hasScope() {
			t.Fatalf("%s became %+v", data, fact)
		}
		again, err := c.Encode(&fact)
		if err != nil {
			return // JSON of its own may be longer
		}
		same, err := c.Decode(again)
		if err != nil {
			t.Fatalf("%s became %s: %v", data, again, err)
		}
		if same.Key() != fact.Key() || same.Scope != fact.Scope || same.Left != fact.Left || same.Lasts != fact.Lasts {
			t.Fatalf("%+v became %+v", fact, same)
		}
		var b Book
		b.Take(&fact, now)
		b.Take(&same, now.Add(time.Second))
		b.About(fact.Endpoint, now)
		b.OpenAt(now)
		b.Opinion(fact.Endpoint, fact.Scope, now)
		b.AboutScope(fact.Endpoint, fact.Scope, now)
		if open := b.OpenScopes(fact.Endpoint, now); len(open) > 1 || len(open) == 1 && open[0] != fact.Scope {
			t.Fatalf("%+v makes %q open", fact, open)
		}
		b.Forget(now.Add(MaxOrder + time.Hour))
		if b.count != 0 || b.scoped != 0 || len(b.facts) != 0 || len(b.peers) != 0 {
			t.Fatalf("%d facts and %d instances are remembered", b.count, len(b.peers))
		}
	})
}
