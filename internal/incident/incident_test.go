package incident

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"reflect"
	"testing"
	"time"

	"github.com/apifailover/caddy-failover/internal/event"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func at(seconds int) time.Time { return epoch.Add(time.Duration(seconds) * time.Second) }

// TestIncident follows an outage from the first endpoint that goes out to the last one that
// returns.
func TestIncident(t *testing.T) {
	var k Tracker
	take := func(second int, kind, endpoint, reason, cause string) uint64 {
		e := event.Event{At: at(second), Kind: kind, Pool: "llm", Endpoint: endpoint, Reason: reason}
		k.Take(&e, cause)
		return e.Incident
	}
	tick := func(second int, out, down bool, failed, saved uint64) *event.Event {
		t.Helper()
		over, due := k.Tick(at(second), out, down, Totals{failed, saved})
		if over == nil && !out && !down && k.open && !due.After(at(second)) {
			t.Errorf("second %d: due at %v", second, due)
		}
		return over
	}
	tick(0, false, false, 100, 10)
	tick(1, false, false, 100, 10)
	tick(2, false, false, 103, 12) // it begins to fail
	if id := take(3, event.Failover, "one", "status", "503"); id != 0 {
		t.Errorf("a failover alone is an incident: %d", id)
	}
	if id := take(3, event.BreakerOpened, "one", "operator", ""); id != 0 {
		t.Errorf("an operator's order is an incident: %d", id)
	}
	id := take(3, event.BreakerOpened, "one", "consecutive_failures", "503 from GET /")
	if id == 0 || take(3, event.Failover, "one", "status", "503") != id {
		t.Errorf("the incident is %d", id)
	}
	tick(3, true, false, 105, 20)
	take(5, event.BreakerOpened, "two", "consecutive_failures", "connection refused")
	take(5, event.AllDown, "", "breaker", "")
	tick(5, true, true, 106, 20)
	tick(15, true, true, 126, 20)
	if now := k.Now(); now == nil || now.Down != 10 || now.Failed != 26 || now.Saved != 10 || now.Kind != Down {
		t.Errorf("while all is down: %+v", now)
	}
	tick(16, true, false, 130, 21)
	if over := tick(20, false, false, 130, 30); over != nil || k.Now() != nil {
		t.Errorf("at once: %+v, %+v", over, k.Now())
	}
	take(40, event.BreakerOpened, "one", "failure_ratio", "502") // again, within half a minute
	if now := k.Now(); now == nil || now.ID != id || !now.End.IsZero() {
		t.Errorf("again: %+v", now)
	}
	tick(40, true, false, 131, 31)
	tick(50, false, false, 131, 32)
	over := tick(80, false, false, 131, 32)
	if over == nil || over.Incident != id || over.Kind != event.IncidentOver || over.Details["seconds"] != 47.0 || over.Details["calls_failed"] != uint64(31) {
		t.Errorf("over: %+v", over)
	}
	want := []Incident{{
		ID: uint64(at(3).UnixMilli()), Pool: "llm", Kind: Down, Start: at(3), End: at(50), Cause: "503 from GET /", Down: 11, Failed: 31, Saved: 22,
		Endpoints: []Endpoint{{"one", at(3), 2, "consecutive_failures", "503 from GET /"}, {"two", at(5), 1, "consecutive_failures", "connection refused"}},
	}}
	if got := k.Incidents(); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if id := take(81, event.BreakerClosed, "one", "recovered", ""); id != 0 {
		t.Errorf("afterwards: %d", id)
	}
	if again := take(82, event.BreakerOpened, "one", "consecutive_failures", "503"); again <= id || len(k.Incidents()) != 2 {
		t.Errorf("another one: %d", again)
	}
}

// TestIncidentsAreBounded checks the limits on incidents and on the endpoints that an
// incident names.
func TestIncidentsAreBounded(t *testing.T) {
	var k Tracker
	last := uint64(0)
	for i := range Kept + 20 {
		for n := range maxEndpoints + 5 {
			e := event.Event{At: epoch, Kind: event.BreakerOpened, Endpoint: fmt.Sprint(n)}
			k.Take(&e, "503")
			if n == 0 && e.Incident <= last {
				t.Fatalf("incident %d comes after %d", e.Incident, last)
			}
			last = e.Incident
		}
		k.Tick(at(100*i), false, false, Totals{})
		k.Tick(at(100*i+50), false, false, Totals{})
	}
	all := k.Incidents()
	if len(all) != Kept || all[Kept-1].ID != last || len(all[0].Endpoints) != maxEndpoints {
		t.Errorf("%d incidents, the latest is %d of %d", len(all), all[Kept-1].ID, last)
	}
}

// storage keeps values in memory.
type storage struct {
	values map[string][]byte
	err    error
	full   bool // Store fails
}

func (s *storage) Store(_ context.Context, key string, value []byte) error {
	if s.full {
		return errors.New("the storage is full")
	}
	if s.err == nil {
		s.values[key] = value
	}
	return s.err
}

func (s *storage) Load(_ context.Context, key string) ([]byte, error) {
	if s.err != nil {
		return nil, s.err
	}
	if value, ok := s.values[key]; ok {
		return value, nil
	}
	return nil, fs.ErrNotExist
}

// TestIncidentsOutliveTheProcess saves and loads incidents. One that was not over must be
// loaded as interrupted.
func TestIncidentsOutliveTheProcess(t *testing.T) {
	ctx, s := context.Background(), &storage{values: map[string][]byte{}}
	var before, after Tracker
	if err := before.Load(ctx, s, "key", "llm"); err != nil || before.Changed() {
		t.Fatalf("nothing is stored: %v", err)
	}
	open := func(k *Tracker, second int) uint64 {
		e := event.Event{At: at(second), Kind: event.BreakerOpened, Pool: "llm", Endpoint: "one", Reason: "denied"}
		k.Take(&e, "401")
		return e.Incident
	}
	open(&before, 0)
	s.err = errors.New("the storage is full")
	if err := before.Save(ctx, s, "key", at(5)); err == nil || !before.Changed() {
		t.Errorf("it could not be saved: %v", err)
	}
	s.err = nil
	if err := before.Save(ctx, s, "key", at(7)); err != nil || before.Changed() {
		t.Errorf("saving: %v", err)
	}
	second := open(&after, 0) // before it is loaded, at the same time by the clock
	if err := after.Load(ctx, s, "key", "llm"); err != nil {
		t.Fatal(err)
	}
	all := after.Incidents()
	if len(all) != 2 || !all[0].Interrupted || !all[0].End.Equal(at(7)) || all[1].Interrupted || all[1].ID < second || all[0].ID >= all[1].ID {
		t.Errorf("loaded: %+v", all)
	}
	if now := after.Now(); now == nil || now.ID != all[1].ID {
		t.Errorf("now: %+v", now)
	}
	many := kept{Saved: at(1)}
	for range 3 * Kept {
		many.Incidents = append(many.Incidents, Incident{End: at(1)})
	}
	s.values["key"], _ = json.Marshal(many)
	var k Tracker
	if err := k.Load(ctx, s, "key", "llm"); err != nil || len(k.Incidents()) != Kept || k.Incidents()[0].Endpoints == nil || k.Incidents()[0].Pool != "llm" {
		t.Errorf("too many: %v, %d", err, len(k.Incidents()))
	}
}

// TestDamagedIncidentsAreSetAside checks that a value that is no list of incidents is kept under another key, and is not
// replaced before it is.
func TestDamagedIncidentsAreSetAside(t *testing.T) {
	ctx := context.Background()
	whole, _ := json.Marshal(kept{Saved: at(1), Incidents: []Incident{{ID: 7, End: at(1)}}})
	for _, damaged := range []string{"", "null", "{}", `{"incidents":`, "\x00\x00\x00", string(whole[:len(whole)-1]), string(whole) + "}", `[{"id": 7}]`} {
		s := &storage{values: map[string][]byte{"key": []byte(damaged)}}
		var k Tracker
		s.full = true
		err := k.Load(ctx, s, "key", "llm")
		if _, ok := errors.AsType[*DamageError](err); ok || err == nil {
			t.Errorf("%q: it could not be set aside: %v", damaged, err)
		}
		s.full = false
		err = k.Load(ctx, s, "key", "llm")
		if _, ok := errors.AsType[*DamageError](err); !ok || string(s.values["key.damaged"]) != damaged || len(k.Incidents()) > 0 {
			t.Errorf("%q: %v, set aside: %q", damaged, err, s.values)
		}
	}
}

// TestLeftOpen checks that the next process knows the latest incident whose end nobody has been told.
func TestLeftOpen(t *testing.T) {
	ctx := context.Background()
	opens := func(k *Tracker, second int) {
		e := event.Event{At: at(second), Kind: event.BreakerOpened, Pool: "llm", Endpoint: "one"}
		k.Take(&e, "401")
		k.Tick(at(second), true, false, Totals{})
	}
	for name, c := range map[string]struct {
		well, over bool // the endpoint was back; for long enough
		again      bool // the next process finds it out again
		left       bool
	}{
		"it lasts":           {left: true},
		"it is nearly over":  {well: true, left: true},
		"it is over":         {well: true, over: true},
		"another one begins": {again: true},
	} {
		s := &storage{values: map[string][]byte{}}
		var before, after Tracker
		opens(&before, 0)
		if c.well {
			before.Tick(at(10), false, false, Totals{})
		}
		if c.over {
			before.Tick(at(40), false, false, Totals{})
		}
		if err := before.Save(ctx, s, "key", at(50)); err != nil {
			t.Fatal(err)
		}
		if err := after.Load(ctx, s, "key", "llm"); err != nil {
			t.Fatal(err)
		}
		if c.again {
			opens(&after, 60)
		}
		names, left := after.LeftOpen()
		if left != c.left || left && (len(names) != 1 || names[0] != "one") {
			t.Errorf("%s: left %t, %q", name, left, names)
		}
		id := after.Incidents()[0].ID
		if over := after.EndLeftOpen(at(70)); (over != nil) != c.left || over != nil && (over.Incident != id || over.Kind != event.IncidentOver) {
			t.Errorf("%s: %+v", name, over)
		}
		if over := after.EndLeftOpen(at(71)); over != nil {
			t.Errorf("%s: told twice", name)
		}
		if c.left && !after.Changed() {
			t.Errorf("%s: the end is not saved", name)
		}
	}
}

// TestIncidentStartsWithItsFirstFailure checks that an incident counts from the failures that led to it, also if
// they came slowly, and never what belongs to the incident before.
func TestIncidentStartsWithItsFirstFailure(t *testing.T) {
	var k Tracker
	totals := Totals{Failed: 7}
	tick := func(second int) {
		k.Tick(at(second), false, false, totals)
		k.Tick(at(second).Add(time.Second/4), false, false, totals)
	}
	for second := range 1000 { // the usual failures
		totals.Failed++
		tick(second)
	}
	for _, second := range []int{1100, 1110, 1120, 1130} {
		totals.Failed, totals.Saved = totals.Failed+2, totals.Saved+1
		tick(second)
	}
	open := func(second int, since time.Time) Incident {
		e := event.Event{At: at(second), Kind: event.BreakerOpened, Endpoint: "one", Details: map[string]any{event.FailingSince: since}}
		k.Take(&e, "503")
		k.Tick(at(second), true, false, totals)
		all := k.Incidents()
		return all[len(all)-1]
	}
	totals.Failed++
	if i := open(1140, at(1100)); !i.Start.Equal(at(1100)) || i.Failed != 9 || i.Saved != 4 {
		t.Errorf("failing for 40 s: %+v", i)
	}
	k.Tick(at(1150), false, false, totals)
	k.Tick(at(1180), false, false, totals)
	totals.Failed++
	if i := open(1190, at(1145)); !i.Start.Equal(at(1150)) || i.Failed != 1 || i.Saved != 0 {
		t.Errorf("the next one: %+v", i)
	}
	k.Tick(at(1200), false, false, totals)
	k.Tick(at(1230), false, false, totals)
	totals.Failed++
	tick(1260)
	down := event.Event{At: at(1280), Kind: event.AllDown, Reason: "all down"}
	k.Take(&down, "")
	if i := open(1280, at(1260)); !i.Start.Equal(at(1260)) || i.Failed != 1 || i.Kind != Down || i.Cause != "503" {
		t.Errorf("if the pool goes down before its endpoint does: %+v", i)
	}
	k.Take(&down, "")
	if i := open(1290, at(1270)); !i.Start.Equal(at(1260)) || i.Failed != 1 {
		t.Errorf("and the endpoint again: %+v", i)
	}
}
