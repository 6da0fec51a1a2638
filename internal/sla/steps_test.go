package sla

import (
	"math"
	"testing"
	"time"
)

func TestStepsAddUpRecords(t *testing.T) {
	var s Series
	start := time.Unix(1_800_000_000, 0).Truncate(24 * time.Hour).UTC()
	now := start
	for minute := range 26 * 60 {
		now = start.Add(time.Duration(minute) * time.Minute)
		s.Record(now, Outcome{Latency: 100 * time.Millisecond})
		s.Record(now, Outcome{Latency: 3 * time.Second})
		if minute%60 == 7 {
			s.Record(now, Outcome{Kind: Timeout})
		}
	}
	now = now.Add(time.Minute)
	for _, c := range []struct{ span, step time.Duration }{{time.Hour, time.Minute}, {24 * time.Hour, 15 * time.Minute}, {26 * time.Hour, 2 * time.Hour}} {
		steps := s.Steps(now, now.Add(-c.span), now, c.step, time.Second)
		var calls, failed, slow uint64
		for i, one := range steps {
			calls, failed, slow = calls+one.Calls, failed+one.Failures.Total(), slow+one.Slow
			if one.Start.Unix()%int64(c.step/time.Second) != 0 || i > 0 && one.Start.Sub(steps[i-1].Start) != c.step {
				t.Fatalf("steps of %s: %s after %s", c.step, one.Start, steps[max(0, i-1)].Start)
			}
		}
		hours := uint64(c.span / time.Hour)
		if calls != 121*hours || failed != hours || slow != 60*hours {
			t.Errorf("%s in steps of %s: %d calls, %d failed, %d slow", c.span, c.step, calls, failed, slow)
		}
	}
	if got := s.Steps(now, now.Add(-time.Hour), now, 0, 0); got != nil {
		t.Errorf("steps of no length: %v", got)
	}
}

func TestBudgetOverTimeEndsAtWhatIsLeft(t *testing.T) {
	var s Series
	start := time.Unix(1_800_000_000, 0).Truncate(time.Hour).UTC()
	now := start
	for i := range 20 * 24 * 60 {
		now = start.Add(time.Duration(i) * time.Minute)
		kind := Success
		if i%2000 == 0 {
			kind = Status
		}
		s.Record(now, Outcome{Kind: kind, Latency: 50 * time.Millisecond})
	}
	o := Objective{Availability: 0.999, Window: 14 * 24 * time.Hour}
	points := o.BudgetOverTime(&s, now, 60)
	if len(points) < 50 || len(points) > 63 {
		t.Fatalf("%d points", len(points))
	}
	if first := points[0]; first.Availability != 1 || !math.IsNaN(first.Latency) {
		t.Errorf("it begins with %+v", first)
	}
	for i := range points[1:] {
		if points[i+1].Availability > points[i].Availability || !points[i+1].At.After(points[i].At) {
			t.Errorf("%+v after %+v", points[i+1], points[i])
		}
	}
	last, want := points[len(points)-1].Availability, o.Standing(&s, now).Availability.BudgetLeft
	if math.Abs(last-want) > 0.01 {
		t.Errorf("it ends at %v, want %v", last, want)
	}
	if got := (Objective{}).BudgetOverTime(&s, now, 60); got != nil {
		t.Errorf("without an objective: %v", got)
	}
	if got := o.BudgetOverTime(new(Series), now, 60); got != nil {
		t.Errorf("without calls: %v", got)
	}
}
