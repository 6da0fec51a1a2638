package e2e

import "testing"

// TestASchedule checks that a planned drain works and is shown as an event, that it ends with its configuration, and
// that a schedule can set priority and weight.
func TestASchedule(t *testing.T) {
	apis := newAPIs(t, "one", "two")
	always := "schedule \"* * * * *\" 2m {\n\tdrain\n}"
	p := startCaddy(t, edited("api", "", apis))
	before := p.newestEvent()
	p.reload(edited("api", "", apis, always))
	eventually(t, "one is drained", func() bool { return p.one("one").Draining })
	wantPart(t, p.parts(100), "two", 1)
	planned := false
	for _, e := range p.events(before) {
		planned = planned || e.Kind == "scheduled" && e.Endpoint == "one" && e.Reason == "drain"
	}
	if !planned {
		t.Errorf("no event of the schedule: %+v", p.events(before))
	}
	p.reload(edited("api", "", apis))
	eventually(t, "one serves again", func() bool { return !p.one("one").Draining && p.get().body == "one" })
	p.reload(edited("api", "", apis, "", "schedule @yearly 8784h {\n\tpriority 1\n\tweight 3\n}"))
	eventually(t, "two is in the first tier", func() bool { return p.one("two").Traffic > 0.7 })
	wantPart(t, p.parts(1000), "two", 0.75)
}
