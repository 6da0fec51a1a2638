package sla

import (
	"testing"
	"time"
)

func TestMinutes(t *testing.T) {
	start := time.Date(2030, 5, 1, 12, 0, 0, 0, time.UTC)
	var s Series
	for _, e := range []struct {
		at      time.Duration
		kind    Kind
		latency time.Duration
		times   int
	}{
		{0, Success, 10 * time.Millisecond, 90},
		{59 * time.Second, Success, 100 * time.Millisecond, 10},
		{2 * time.Minute, Timeout, 0, 3},
		{2*time.Minute + 30*time.Second, Success, 0, 1},
		{3*time.Minute + time.Second, Success, time.Second, 1},
	} {
		for range e.times {
			s.Record(start.Add(e.at), Outcome{Kind: e.kind, Latency: e.latency})
		}
	}
	now := start.Add(3*time.Minute + 2*time.Second) // within the last minute
	got := s.Minutes(now, start, now)
	if len(got) != 3 {
		t.Fatalf("%d minutes, want the 3 in which something happened: %v", len(got), got)
	}
	for i, want := range []struct {
		minute          int
		calls, failures uint64
		p50, p95        time.Duration
	}{
		{0, 100, 0, 10 * time.Millisecond, 100 * time.Millisecond},
		{2, 4, 3, 0, 0},
		{3, 1, 0, time.Second, time.Second},
	} {
		m := got[i]
		if m.Start != start.Add(time.Duration(want.minute)*time.Minute) || m.Calls != want.calls || m.Failures.Total() != want.failures {
			t.Errorf("minute %d: %+v, want %+v", i, m, want)
		}
		if !close2(m.P50, want.p50) || !close2(m.P95, want.p95) {
			t.Errorf("minute %d: p50 %v, p95 %v, want %v, %v", i, m.P50, m.P95, want.p50, want.p95)
		}
	}
	if part := s.Minutes(now, start.Add(time.Minute), start.Add(3*time.Minute)); len(part) != 1 || part[0] != got[1] {
		t.Errorf("the minutes between: %v, want %v", part, got[1:2])
	}
	if empty := new(Series).Minutes(now, start, now); len(empty) != 0 {
		t.Errorf("minutes of nothing: %v", empty)
	}
}

// close2 reports whether two latencies differ by no more than the error of a sketch.
func close2(a, b time.Duration) bool { return a >= b*98/100 && a <= b*102/100 }

func BenchmarkMinutesOfAnHour(b *testing.B) {
	start := time.Date(2030, 5, 1, 12, 0, 0, 0, time.UTC)
	var s Series
	for i := range 3600 * 10 {
		s.Record(start.Add(time.Duration(i)*100*time.Millisecond), Outcome{Latency: time.Duration(i%97+1) * time.Millisecond})
	}
	now := start.Add(time.Hour)
	b.ReportAllocs()
	for b.Loop() {
		s.Minutes(now, start, now)
	}
}
