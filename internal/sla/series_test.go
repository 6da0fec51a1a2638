package sla

import (
	"math/rand/v2"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"
)

// noon is the start of a step of each level.
var noon = time.Date(2025, 3, 10, 12, 0, 0, 0, time.UTC)

func ok(latency time.Duration) Outcome { return Outcome{Latency: latency} }

func fail(k Kind) Outcome { return Outcome{Kind: k} }

// failures returns counts of failures by kind.
func failures(byKind map[Kind]uint64) (f Failures) {
	for k, n := range byKind {
		f[k-Dial] = n
	}
	return f
}

// TestSeriesCounts checks the counts of one series through its states.
func TestSeriesCounts(t *testing.T) {
	var s Series
	steps := []struct {
		at   time.Duration // since noon
		do   func(now time.Time)
		span time.Duration // length of the counted range, which ends at at
		want Counts
	}{
		{0, func(now time.Time) { s.Record(now, ok(time.Millisecond)) }, time.Hour, Counts{Calls: 1}},
		{time.Second, func(now time.Time) { s.Record(now, fail(Timeout)) }, time.Hour, Counts{Calls: 2, Failures: failures(map[Kind]uint64{Timeout: 1})}},
		{2 * time.Second, func(now time.Time) { s.Record(now, fail(Cancelled)) }, time.Hour, Counts{Calls: 2, Failures: failures(map[Kind]uint64{Timeout: 1}), Cancelled: 1}},
		{15 * time.Second, func(now time.Time) { s.Record(now, ok(0)) }, 10 * time.Second, Counts{Calls: 1}},
		{15 * time.Second, nil, 5 * time.Second, Counts{Calls: 1}},
		{20 * time.Second, func(now time.Time) { s.SetDown(now, true, "refused") }, 5 * time.Second, Counts{}},
		{50 * time.Second, func(now time.Time) { s.SetDown(now, true, "again") }, time.Minute, Counts{Calls: 3, Failures: failures(map[Kind]uint64{Timeout: 1}), Cancelled: 1, Down: 30 * time.Second}},
		{70 * time.Second, nil, 4 * time.Hour, Counts{Calls: 3, Failures: failures(map[Kind]uint64{Timeout: 1}), Cancelled: 1, Down: 50 * time.Second}},
		{2 * time.Hour, nil, 30 * 24 * time.Hour, Counts{Calls: 3, Failures: failures(map[Kind]uint64{Timeout: 1}), Cancelled: 1, Down: 2*time.Hour - 20*time.Second}},
		{2 * time.Hour, func(now time.Time) { s.SetDown(now, false, "") }, time.Hour, Counts{Down: time.Hour}},
		{3 * time.Hour, func(now time.Time) { s.Record(now, fail(Dial)) }, 30 * time.Minute, Counts{Calls: 1, Failures: failures(map[Kind]uint64{Dial: 1})}},
		{3 * time.Hour, func(now time.Time) { s.Record(now, fail(Cancelled+1)) }, 30 * time.Minute, Counts{Calls: 1, Failures: failures(map[Kind]uint64{Dial: 1})}},
	}
	for i, st := range steps {
		now := noon.Add(st.at)
		if st.do != nil {
			st.do(now)
		}
		if got := s.Counts(now, now.Add(-st.span), now.Add(time.Millisecond)); got != st.want {
			t.Fatalf("step %d, last %v before %v:\n got %+v\nwant %+v", i, st.span, st.at, got, st.want)
		}
	}
	want := []Incident{{Start: noon.Add(20 * time.Second), End: noon.Add(2 * time.Hour), Cause: "refused"}}
	if got := s.rec.incidents; !reflect.DeepEqual(got, want) {
		t.Errorf("incidents:\n got %+v\nwant %+v", got, want)
	}
}

// TestSeriesLevels checks that all levels have the same counts, and that adjacent ranges
// add up.
func TestSeriesLevels(t *testing.T) {
	var s Series
	r := rand.New(rand.NewPCG(1, 2))
	now := noon
	var want Counts
	for range 20000 {
		now = now.Add(time.Duration(r.Int64N(int64(900 * time.Millisecond))))
		o := Outcome{Kind: Kind(r.IntN(int(Cancelled) + 1)), Latency: time.Duration(1 + r.Int64N(int64(time.Second)))}
		s.Record(now, o)
		switch {
		case o.Kind == Cancelled:
			want.Cancelled++
		case o.Kind.Failed():
			want.Failures[o.Kind-Dial]++
			fallthrough
		default:
			want.Calls++
		}
	}
	rec := s.record(now)
	for l := range levels {
		var all, split tally
		rec.sum(&all, l, noon, now.Add(time.Second), true)
		if all.Counts != want {
			t.Errorf("level %d:\n got %+v\nwant %+v", l, all.Counts, want)
		}
		middle := noon.Add(time.Duration(r.Int64N(int64(now.Sub(noon)))))
		rec.sum(&split, l, noon, middle, true)
		rec.sum(&split, l, middle, now.Add(time.Second), true)
		if !reflect.DeepEqual(split, all) {
			t.Errorf("level %d: split at %v gives another sum", l, middle)
		}
		if n := all.latency.count(); n != want.Calls-want.Failures.Total() {
			t.Errorf("level %d: %d latencies, want %d", l, n, want.Calls-want.Failures.Total())
		}
	}
}

func TestSeriesClock(t *testing.T) {
	day := 24 * time.Hour
	tests := []struct {
		name   string
		at     []time.Duration // of successes, since noon
		now    time.Duration
		want   uint64 // in the last hour
		want30 uint64 // in the last 30 days
	}{
		{"regular", []time.Duration{0, time.Minute, 2 * time.Minute}, 2 * time.Minute, 3, 3},
		{"back a little: counts into the newest step", []time.Duration{5 * time.Minute, 0, 0}, 5 * time.Minute, 3, 3},
		{"back 10 minutes", []time.Duration{0, 10 * time.Minute, 0}, 10 * time.Minute, 3, 3},
		{"back an hour and more: later steps that are over are dropped", []time.Duration{-2 * day, 2 * time.Hour, 3 * time.Hour, 0}, 0, 2, 3},
		{"far ahead and back: earlier steps stay", []time.Duration{-3 * time.Hour, 0, 70 * 365 * day, time.Second}, time.Second, 3, 4},
		{"before 1970", []time.Duration{-100 * 365 * day, 0}, 0, 1, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var s Series
			for _, at := range tt.at {
				s.Record(noon.Add(at), ok(time.Millisecond))
			}
			now := noon.Add(tt.now)
			got, got30 := s.Counts(now, now.Add(-time.Hour), now.Add(time.Second)), s.Counts(now, now.Add(-30*day), now.Add(time.Second))
			if got.Calls != tt.want || got30.Calls != tt.want30 {
				t.Errorf("last hour %d, last 30 days %d, want %d and %d", got.Calls, got30.Calls, tt.want, tt.want30)
			}
		})
	}
}

// TestSeriesClockDown checks that no clock jump makes a series down for longer than it was
// watched.
func TestSeriesClockDown(t *testing.T) {
	var s Series
	s.SetDown(noon, true, "x")
	s.Advance(noon.Add(50 * 365 * 24 * time.Hour))
	s.Advance(noon.Add(time.Hour))
	s.SetDown(noon.Add(2*time.Hour), false, "")
	now := noon.Add(3 * time.Hour)
	if got := s.Counts(now, noon.Add(-24*time.Hour), now).Down; got > 3*time.Hour {
		t.Errorf("down %v, watched for 3h", got)
	}
	want := []Incident{{Start: noon, End: noon.Add(2 * time.Hour), Cause: "x"}}
	if got := s.rec.incidents; !reflect.DeepEqual(got, want) {
		t.Errorf("incidents:\n got %+v\nwant %+v", got, want)
	}
}

// TestSeriesDownUncalled checks the down time of a series without calls for days.
func TestSeriesDownUncalled(t *testing.T) {
	var s Series
	s.SetDown(noon, true, "x")
	now := noon.Add(20 * time.Hour)
	for _, span := range []time.Duration{time.Hour, 10 * time.Hour, 20 * time.Hour} {
		if got := s.Counts(now, now.Add(-span), now).Down; got != span {
			t.Errorf("last %v: down %v", span, got)
		}
	}
	now = noon.Add(10 * 24 * time.Hour)
	if got := s.Counts(now, noon, now).Down; got < 24*time.Hour || got > 25*time.Hour+time.Minute {
		t.Errorf("10 days without a call: down %v, want the first hour and the last day", got)
	}
}

func TestIncidents(t *testing.T) {
	var s Series
	for i := range 300 {
		now := noon.Add(time.Duration(i) * time.Minute)
		s.Record(now, ok(1))
		s.Record(now, fail(Reset))
		s.Record(now, fail(Reset))
		s.SetDown(now.Add(time.Second), true, "broken")
		s.Record(now.Add(2*time.Second), fail(Dial))
		if i < 299 {
			s.SetDown(now.Add(3*time.Second), false, "")
		}
	}
	got := s.rec.incidents
	if len(got) != maxIncidents {
		t.Fatalf("%d incidents, want %d", len(got), maxIncidents)
	}
	start := noon.Add(44*time.Minute + time.Second)
	if want := (Incident{start, start.Add(2 * time.Second), "broken", 3}); got[0] != want {
		t.Errorf("oldest:\n got %+v\nwant %+v", got[0], want)
	}
	start = noon.Add(299*time.Minute + time.Second)
	if want := (Incident{start, time.Time{}, "broken", 3}); got[255] != want {
		t.Errorf("newest:\n got %+v\nwant %+v", got[255], want)
	}
	if !s.rec.down {
		t.Error("not down")
	}
}

func TestClip(t *testing.T) {
	for _, tt := range []struct {
		s    string
		n    int
		want string
	}{{"abc", 3, "abc"}, {"abcd", 3, "abc"}, {"aé", 2, "a"}, {"€", 2, ""}, {"", 0, ""}} {
		if got := clip(tt.s, tt.n); got != tt.want {
			t.Errorf("clip(%q, %d) = %q, want %q", tt.s, tt.n, got, tt.want)
		}
	}
}

// TestSeriesConcurrent reads while others record. Each read must be consistent.
func TestSeriesConcurrent(t *testing.T) {
	h := new(History)
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			s := h.Endpoint([]string{"a", "b"}[i%2])
			for n := range 5000 {
				now := noon.Add(time.Duration(n) * 100 * time.Millisecond)
				s.Record(now, ok(time.Duration(n)*time.Microsecond))
				h.RecordFailovers(now, "a", "b", 1)
				if n%500 == 0 {
					s.SetDown(now, n%1000 == 0, "x")
				}
			}
		})
	}
	end := noon.Add(500 * time.Second)
	for range 50 {
		snap := h.Snapshot(end)
		if _, err := Decode(snap.Encode()); err != nil {
			t.Fatal(err)
		}
		Objective{Availability: 0.9}.Standing(h.Endpoint("a"), end)
	}
	wg.Wait()
	rep := NewReport(Query{From: noon, To: end, Now: end}, h.Snapshot(end))
	if want := []Failover{{"a", "b", 20000}}; !reflect.DeepEqual(rep.Failovers, want) {
		t.Errorf("failovers %v, want %v", rep.Failovers, want)
	}
	for _, e := range rep.Endpoints {
		if e.Calls != 10000 {
			t.Errorf("%s: %d calls, want 10000", e.Name, e.Calls)
		}
	}
}

func TestHistoryEndpoints(t *testing.T) {
	h := new(History)
	a := h.Endpoint("a")
	h.Endpoint("b")
	if h.Endpoint("a") != a {
		t.Error("pointer changed")
	}
	h.Forget("a")
	h.Forget("none")
	if got, want := h.Endpoints(), []string{"b"}; !reflect.DeepEqual(got, want) {
		t.Errorf("endpoints %v, want %v", got, want)
	}
	a.Record(noon, ok(1)) // must not panic
	if h.Endpoint("a") == a {
		t.Error("forgotten series came back")
	}
}

// TestFailoversMany checks that a step counts destinations beyond 8 together.
func TestFailoversMany(t *testing.T) {
	h := new(History)
	for i := range 12 {
		for range 12 - i {
			h.RecordFailovers(noon, "from", string(rune('a'+i)), 1)
		}
	}
	now := noon.Add(time.Minute)
	got := NewReport(Query{From: noon, To: now, Now: now}, h.Snapshot(now)).Failovers
	want := []Failover{{"from", "a", 12}, {"from", "b", 11}, {"from", "", 10}, {"from", "c", 10}, {"from", "d", 9},
		{"from", "e", 8}, {"from", "f", 7}, {"from", "g", 6}, {"from", "h", 5}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("failovers:\n got %v\nwant %v", got, want)
	}
}

func TestPruneForgetsWhoHasBeenSilentForLongest(t *testing.T) {
	var h History
	now := time.Unix(1_000_000, 0)
	for i, name := range []string{"used and old", "oldest", "old", "new", "newest"} {
		h.Endpoint(name).Record(now.Add(time.Duration(i)*time.Hour), Outcome{Kind: Success})
		h.Endpoint(name).Advance(now.Add(10 * time.Hour))
	}
	h.Endpoint("never called")
	h.Endpoint("now").Record(now.Add(10*time.Hour), Outcome{Kind: Success})
	used := func(name string) bool { return name == "used and old" }
	h.Prune(6, used)
	if got := len(h.Endpoints()); got != 7 {
		t.Fatalf("%d endpoints are left, want all 7", got)
	}
	h.Prune(3, used)
	if got, want := h.Endpoints(), []string{"new", "newest", "now", "used and old"}; !slices.Equal(got, want) {
		t.Errorf("left are %q, want %q", got, want)
	}
}
