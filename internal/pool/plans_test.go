package pool

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/apifailover/caddy-failover/internal/endpoint"
	"github.com/apifailover/caddy-failover/internal/event"
	"github.com/apifailover/caddy-failover/internal/schedule"
	"github.com/apifailover/caddy-failover/internal/sla"
	"github.com/apifailover/caddy-failover/internal/target"
)

// noSubscribers is an event source that emits nothing.
type noSubscribers struct{}

func (noSubscribers) Usable() bool         { return true }
func (noSubscribers) Emit(event.Event)     {}
func (noSubscribers) Storage() sla.Storage { return nil }

// TestSchedulesComeAndGo checks that an idle pool wakes up when a schedule begins or ends, and that
// tables and statuses follow.
func TestSchedulesComeAndGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		window := func(cron string) *schedule.Window {
			w, err := schedule.Parse(cron, "UTC", time.Hour)
			if err != nil {
				t.Fatal(err)
			}
			return w
		}
		first := 1
		one := &target.Target{Name: "one", Address: "one:80", Weight: 1, Priority: 1, Schedules: []target.Schedule{{Window: window("0 3 * * *"), Drain: true}}}
		two := &target.Target{Name: "two", Address: "two:80", Weight: 1, Priority: 2}
		three := &target.Target{Name: "three", Address: "three:80", Weight: 1, Priority: 3, Schedules: []target.Schedule{{Window: window("0 5 * * *"), Priority: &first}}}
		p := New("pool")
		h := &Handler{Pool: p, Logger: zap.NewNop(), Source: noSubscribers{}, Scheduled: true, Targets: []*target.Target{one, two, three}}
		if err := p.Attach(h, "config"); err != nil {
			t.Fatal(err)
		}
		p.Mu.Lock()
		h.Rebuild(time.Now())
		p.Mu.Unlock()
		p.Loop.start(p)
		defer p.Outbox.Close()
		defer p.Loop.stop()

		// shares are the parts of one, two and three
		shares := func() []float64 {
			synctest.Wait()
			parts := make([]float64, 3)
			table := h.Table.Load()
			for i, t := range table.Targets {
				parts[slices.Index([]string{"one", "two", "three"}, t.Name)] = table.Share(i)
			}
			return parts
		}
		day := time.Now().UTC().Truncate(24 * time.Hour).Add(24 * time.Hour)
		for _, step := range []struct {
			at   time.Duration
			want []float64
		}{
			{3*time.Hour - time.Second, []float64{1, 0, 0}},
			{3*time.Hour + time.Second, []float64{0, 1, 0}},
			{4*time.Hour - time.Second, []float64{0, 1, 0}},
			{4*time.Hour + time.Second, []float64{1, 0, 0}},
			{5*time.Hour + time.Second, []float64{0.5, 0, 0.5}},
			{6*time.Hour + time.Second, []float64{1, 0, 0}},
			{27*time.Hour + time.Second, []float64{0, 1, 0}},
		} {
			time.Sleep(time.Until(day.Add(step.at)))
			if got := shares(); !slices.Equal(got, step.want) {
				t.Errorf("at %v: shares %v, want %v", step.at, got, step.want)
			}
			now := time.Now()
			open := step.at > 3*time.Hour && step.at < 4*time.Hour || step.at > 27*time.Hour
			if e := one.State.Status(now, h.BreakerConfig()); e.Draining != open || (e.Schedule != nil) != open {
				t.Errorf("at %v: %+v", step.at, e)
			}
			until, barred := one.State.BarredUntil(now)
			if barred != open || barred && until.Sub(now) > time.Hour {
				t.Errorf("at %v: barred %v until %v", step.at, barred, until)
			}
		}
	})
}

// TestAPlanChanges checks that each beginning and end of a change is an event.
func TestAPlanChanges(t *testing.T) {
	weight, priority := 0.5, 2
	s := &endpoint.State{Key: endpoint.Key{Name: "one"}}
	for _, step := range []struct {
		plan *endpoint.Plan
		want []string
	}{
		{nil, nil},
		{&endpoint.Plan{Drain: true}, []string{"drain"}},
		{&endpoint.Plan{Drain: true}, nil},
		{&endpoint.Plan{Weight: &weight, Priority: &priority}, []string{"drain_over", "weight", "priority"}},
		{&endpoint.Plan{Weight: &weight}, []string{"priority_over"}},
		{nil, []string{"weight_over"}},
	} {
		changed := false
		var got []string
		for _, e := range changePlan(s, step.plan, time.Now(), &changed, nil) {
			if e.Kind != event.Scheduled || e.Endpoint != "one" {
				t.Errorf("event %+v", e)
			}
			got = append(got, e.Reason)
		}
		if !slices.Equal(got, step.want) || changed != (step.want != nil) {
			t.Errorf("%+v: events %v, changed %v, want %v", step.plan, got, changed, step.want)
		}
	}
}
