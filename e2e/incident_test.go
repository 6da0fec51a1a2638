package e2e

import (
	"testing"
	"time"
)

// incident is an incident as the admin API returns it.
type incident struct {
	ID          uint64
	Kind, Cause string
	Start, End  time.Time
	Endpoints   []struct {
		Name, Cause string
		Times       int
	}
	Down        float64 `json:"down_seconds"`
	Failed      uint64  `json:"calls_failed"`
	Saved       uint64  `json:"calls_saved"`
	Interrupted bool
}

func (p *proxy) incidents() (list []incident) {
	p.t.Helper()
	p.read("/failover/incidents?pool=api", &list)
	return list
}

// TestAnOutageIsAnIncident has one endpoint fail, then both, and then both work again. Trials meanwhile must cause no
// events, all must be one incident, and the incident must outlive a restart.
func TestAnOutageIsAnIncident(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	config := site("breaker {\n\t\topen_for 100ms\n\t\topen_max 100ms\n\t\tstep 20ms\n\t\tstart 50%\n\t}\n\tretry {\n\t\tmethods any\n\t}", one, two)
	p := startCaddy(t, config)
	before := p.newestEvent()
	if list := p.incidents(); len(list) != 0 {
		t.Fatalf("incidents before the outage: %+v", list)
	}
	post := func() answer { return p.call("POST", "/v1/chat?key=x", "{}") }
	one.answer(503)
	saved := 0
	for p.one("one").State == "closed" {
		post().want(t, "a call that moves on", 200, "two"+digest("{}"))
		saved++
	}
	two.answer(502)
	eventually(t, "the pool is down", func() bool { post(); return p.pool("api").Down })
	was := p.one("two")
	downAt := time.Now()
	for time.Since(downAt) < time.Second { // enough for some trials of each endpoint
		post()
		now := p.pool("api")
		for _, e := range now.Endpoints {
			if e.Name == "two" && (e.State != "open" || !e.Since.Equal(was.Since) || e.Until.Before(now.At)) {
				t.Fatalf("a trial changed the status: %+v, was %+v, at %v", e, was, now.At)
			}
		}
	}
	list := p.events(before)
	down := 0
	for i, e := range list {
		switch {
		case e.Kind == "all_down":
			down = i
			if e.Details["causes"] == nil {
				t.Errorf("all_down: %v", e.Details)
			}
		case down > 0 && e.Kind != "failover" && e.Endpoint == "two":
			t.Errorf("an event while the pool is down: %+v", e)
		}
	}
	if down == 0 {
		t.Fatalf("no all_down among %+v", list)
	}
	one.behave(one.fine)
	two.behave(two.fine)
	eventually(t, "both endpoints are back", func() bool {
		post()
		return p.one("one").State == "closed" && p.one("two").State == "closed"
	})
	var i incident
	eventually(t, "the incident has ended", func() bool {
		post()
		all := p.incidents()
		if len(all) != 1 {
			t.Fatalf("incidents: %+v", all)
		}
		i = all[0]
		return !i.End.IsZero()
	})
	if i.Kind != "down" || i.Cause != "503 from POST /v1/chat" || len(i.Endpoints) != 2 || i.Endpoints[0].Name != "one" || i.Endpoints[1].Name != "two" ||
		i.Endpoints[1].Cause != "502 from POST /v1/chat" || i.Down <= 0 || i.Failed < 5 || i.Saved < uint64(saved) {
		t.Errorf("%d calls were saved; %+v", saved, i)
	}
	up := 0
	for _, e := range p.events(before) {
		if e.Kind == "pool_up" {
			up++
			if s, _ := e.Details["down_seconds"].(float64); s < 0.5 || e.Details["calls_failed"] == nil || e.Details["by"] == nil || e.Incident != i.ID {
				t.Errorf("pool_up: %+v", e)
			}
		}
	}
	if up != 1 {
		t.Errorf("%d pool_up", up)
	}
	eventually(t, "the log has pool_up", func() bool {
		lines := p.lines("pool_up")
		return len(lines) == 1 && lines[0]["incident"] == float64(i.ID)
	})
	p.stop()
	if err := p.load(config); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the incident outlives a restart", func() bool {
		all := p.incidents()
		return len(all) == 1 && all[0].ID == i.ID && all[0].End.Equal(i.End) && all[0].Cause == i.Cause && !all[0].Interrupted
	})
}
