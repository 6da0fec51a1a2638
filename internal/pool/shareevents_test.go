package pool

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/event"
	"github.com/apifailover/caddy-failover/internal/fleet"
)

// TestEventsArriveInTheirShape: what other instances get of an event is JSON of the same types as the
// instance's own, whatever Go types its details have.
func TestEventsArriveInTheirShape(t *testing.T) {
	type text string
	at := time.Date(2026, 1, 2, 3, 4, 5, 678901234, time.FixedZone("", 3600))
	e := event.Event{
		ID: 12, At: at, Kind: event.BreakerOpened, Pool: "api", Endpoint: "one", Scope: "gpt-4o", Reason: "consecutive_failures",
		Count: 2, Incident: 3,
		Details: map[string]any{
			"until": at, "failures": 5, "relapses": uint64(2), "in_flight": int64(-1), "seconds": 1234567.891, "long_rate": float32(0.5),
			"cause": "503", "of": text("requests"), "state": breaker.Open, "late": true, "error": json.Number("7"),
		},
	}
	codec := fleet.NewCodec("eu", "s3cret")
	arrive := func() fleet.Fact {
		t.Helper()
		f := factOf(&e, at.Add(time.Second))
		f.Instance, f.Boot = "edge-1", "B"
		data, err := codec.Encode(&f)
		if err != nil {
			t.Fatal(err)
		}
		got, err := codec.Decode(data)
		if err != nil {
			t.Fatalf("%s: %v", data, err)
		}
		return got
	}
	got := arrive()
	if got.Scope != e.Scope || got.Incident != e.Incident || got.Version != e.ID || got.Count != e.Count || got.Age != time.Second {
		t.Errorf("got %+v", got)
	}
	e.Details["state"], e.Details["error"] = 1, "7" // named types are as what they are made of
	want, _ := json.Marshal(e.Details)
	if have, err := json.Marshal(got.Details); err != nil || string(have) != string(want) {
		t.Errorf("details:\n%s, error %v; want\n%s", have, err, want)
	}

	e.Details = map[string]any{"ratio": math.NaN(), "rate": math.Inf(1), "list": []int{1, 2}, "none": nil, "path": strings.Repeat("a", 300)}
	got = arrive()
	want, _ = json.Marshal(map[string]any{"list": "[1 2]", "path": strings.Repeat("a", 128)})
	if have, err := json.Marshal(got.Details); err != nil || string(have) != string(want) {
		t.Errorf("details:\n%s, error %v; want\n%s", have, err, want)
	}
}
