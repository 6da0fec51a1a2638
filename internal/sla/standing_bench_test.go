package sla

import (
	"testing"
	"time"
)

// BenchmarkStanding compares a full series with an objective.
func BenchmarkStanding(b *testing.B) {
	var s Series
	now := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	for at := now.Add(-40 * 24 * time.Hour); at.Before(now); at = at.Add(10 * time.Second) {
		for i := range 5 {
			s.Record(at, Outcome{Success, time.Duration(50+10*i) * time.Millisecond})
		}
		s.Record(at, Outcome{Kind: Timeout})
	}
	o := Objective{Availability: 0.999, LatencyQuantile: 0.95, LatencyTarget: 200 * time.Millisecond, Window: DefaultWindow}
	b.ReportAllocs()
	for b.Loop() {
		if got := o.Standing(&s, now); got.Calls == 0 {
			b.Fatal("empty")
		}
	}
}
