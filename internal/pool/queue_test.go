package pool

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/apifailover/caddy-failover/internal/endpoint"
)

// A gate is an endpoint that lets a number of fake calls in. The queue's mutex guards it.
type gate struct {
	state endpoint.State
	open  int // number of calls that it lets in; negative means any number
	asked int // how often a call asked to be let in
	due   time.Time
	in    []string // names of the calls that are in
}

// waiter is a call that waits at a gate.
type waiter struct {
	name     string
	gate     *gate
	doubtful bool
}

func (w *waiter) Kind() any      { return w.gate }
func (w *waiter) Doubtful() bool { return w.doubtful }

func (w *waiter) Due(time.Time) time.Time { return w.gate.due }

func (w *waiter) Enter(_ time.Time, lanes Lanes, trial bool) Way {
	g := w.gate
	g.asked++
	way := Way{State: &g.state}
	lanes.Pace(way)
	if g.open == 0 || !trial || !lanes.Room(way) {
		return Way{}
	}
	g.open--
	g.in = append(g.in, w.name)
	return way
}

func newQueue() *Queue { return &Queue{wake: make(chan struct{}, 1)} }

// empty makes all waiting calls leave.
func (q *Queue) empty() {
	q.mu.Lock()
	var left []*Place
	for e := q.places.Front(); e != nil; e = e.Next() {
		left = append(left, e.Value.(*Place))
	}
	q.mu.Unlock()
	for _, p := range left {
		p.Leave()
	}
	synctest.Wait()
}

// lets opens a gate for n calls, and waits until they are in.
func (g *gate) lets(q *Queue, n int) {
	q.mu.Lock()
	g.open = n
	q.mu.Unlock()
	q.Wake()
	synctest.Wait()
}

func (g *gate) wantIn(t *testing.T, what string, names ...string) {
	t.Helper()
	synctest.Wait()
	if !slices.Equal(g.in, names) {
		t.Errorf("%s: %v are in, want %v", what, g.in, names)
	}
}

// TestTheQueueIsFirstComeFirstServed checks that calls enter in the order of their start, and that a call
// that has left does not enter.
func TestTheQueueIsFirstComeFirstServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, g, began := newQueue(), new(gate), time.Now()
		defer q.empty()
		var places []*Place
		for i, name := range []string{"first", "third", "fourth", "second"} {
			at := began.Add([]time.Duration{0, 2, 3, 1}[i] * time.Second)
			places = append(places, q.Join(&waiter{name: name, gate: g}, at))
		}
		g.wantIn(t, "while the gate is shut")
		if !places[1].Leave() || places[1].Leave() {
			t.Error("the third call could not leave, or left twice")
		}
		g.lets(q, 1)
		g.wantIn(t, "after one was let in", "first")
		places[0].Answered(time.Millisecond, true)
		g.lets(q, 1)
		g.wantIn(t, "after another", "first", "second")
		if places[0].Leave() || !q.blocks() {
			t.Error("a call that is in could leave, or no call waits")
		}
		places[3].Answered(time.Millisecond, true)
		g.lets(q, 5)
		g.wantIn(t, "at last", "first", "second", "fourth")
		if q.blocks() || q.serving {
			t.Error("no call waits, but the queue still runs")
		}
	})
}

// TestCallsJoinBehindOthers checks that the queue does not look for endpoints for each call that joins it behind one that
// finds none: with ten thousand calls, each look takes a millisecond.
func TestCallsJoinBehindOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, g, other := newQueue(), new(gate), new(gate)
		defer q.empty()
		for i := range 100 {
			q.Join(&waiter{name: fmt.Sprint(i), gate: g}, time.Now())
			synctest.Wait()
		}
		if g.asked > 1 {
			t.Errorf("calls asked %d times", g.asked)
		}
		other.open = 1
		q.Join(&waiter{name: "of another kind", gate: other}, time.Now())
		other.wantIn(t, "at once", "of another kind")
		g.lets(q, 1)
		g.wantIn(t, "after one was let in", "0")
	})
}

// TestTheQueueLooksByItself checks that the queue looks for endpoints four times a second without a wake.
func TestTheQueueLooksByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, g, began := newQueue(), new(gate), time.Now()
		defer q.empty()
		p := q.Join(&waiter{name: "one", gate: g}, began)
		synctest.Wait()
		q.mu.Lock()
		g.open = 1
		q.mu.Unlock()
		<-p.In()
		if took := time.Since(began); took > endpoint.PollAllIn {
			t.Errorf("it took %v", took)
		}
	})
}

// TestTheQueueLooksWhenALimitHasRoom checks that the queue looks at the time that Due returns.
func TestTheQueueLooksWhenALimitHasRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, g, began := newQueue(), new(gate), time.Now()
		defer q.empty()
		g.due = began.Add(37 * time.Millisecond)
		p := q.Join(&waiter{name: "one", gate: g}, began)
		synctest.Wait()
		q.mu.Lock()
		g.open = 1
		q.mu.Unlock()
		<-p.In()
		if took := time.Since(began); took != 37*time.Millisecond {
			t.Errorf("it took %v", took)
		}
	})
}

// TestCallsOfOneKindHoldUpNoOther checks that calls without an endpoint do not delay calls of another
// kind, because handlers of one pool may have different endpoints.
func TestCallsOfOneKindHoldUpNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, shut, open := newQueue(), new(gate), &gate{open: -1}
		defer q.empty()
		for i := range 3 {
			q.Join(&waiter{name: "shut", gate: shut}, time.Now())
			p := q.Join(&waiter{name: fmt.Sprint(i), gate: open}, time.Now())
			<-p.In()
			p.Answered(time.Millisecond, true)
		}
		open.wantIn(t, "calls with an endpoint", "0", "1", "2")
		shut.lets(q, -1)
		shut.wantIn(t, "calls of the other kind, before a response", "shut")
	})
}

// TestDoubtfulCallsAreNoTrials checks that doubtful calls enter only after all others.
func TestDoubtfulCallsAreNoTrials(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, g := newQueue(), new(gate)
		defer q.empty()
		q.Join(&waiter{name: "doubtful", gate: g, doubtful: true}, time.Now())
		p := q.Join(&waiter{name: "fresh", gate: g}, time.Now().Add(time.Second))
		g.lets(q, 1)
		g.wantIn(t, "first", "fresh")
		p.Answered(time.Millisecond, true)
		g.lets(q, 1)
		g.wantIn(t, "then", "fresh", "doubtful")
	})
}

// TestLanesOpenByAnswers checks that an endpoint that comes back gets one call, then twice as many after
// each round of responses in time, and fewer if it gets slow or fails.
func TestLanesOpenByAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q, g := newQueue(), &gate{open: -1}
		defer q.empty()
		var places []*Place
		for i := range 200 {
			places = append(places, q.Join(&waiter{name: fmt.Sprint(i), gate: g}, time.Now()))
		}
		synctest.Wait()
		answered := 0
		busy := func() int { return len(g.in) - answered }
		answers := func(n int, took time.Duration, well bool) {
			for range n {
				places[answered].Answered(took, well)
				answered++
			}
			synctest.Wait()
		}
		for _, step := range []struct {
			what    string
			answers int
			took    time.Duration
			well    bool
			busy    int
		}{
			{"at first", 0, 0, true, 1},
			{"after an answer", 1, 5 * time.Millisecond, true, 2},
			{"after one of two", 1, 5 * time.Millisecond, true, 2},
			{"after the other", 1, 500 * time.Millisecond, true, 4},
			{"after four that are hardly slower", 4, 14 * time.Millisecond, true, 8},
			{"after eight slow ones", 8, 30 * time.Millisecond, true, 6},
			{"after six in time, once it has been slow", 6, 5 * time.Millisecond, true, 7},
			{"after one failure", 1, 0, false, 7},
			{"and six in time", 6, 5 * time.Millisecond, true, 8},
			{"after eight failures", 8, 0, false, 4},
			{"after four", 4, 0, false, 2},
			{"after two", 2, 0, false, 1},
			{"after another", 1, 0, false, 1},
			{"after one that is slow by itself", 1, 80 * time.Millisecond, true, 2},
			{"after two of these", 2, 80 * time.Millisecond, true, 3},
		} {
			if answers(step.answers, step.took, step.well); busy() != step.busy {
				t.Fatalf("%s the endpoint has %d calls, want %d", step.what, busy(), step.busy)
			}
		}
	})
}

// TestWaitsAreCounted checks that waits are counted, and that their number is limited.
func TestWaitsAreCounted(t *testing.T) {
	q, now := newQueue(), time.Now()
	for i, want := range []bool{true, true, false} {
		if q.Take(2) != want {
			t.Errorf("call %d of three: may wait is %v, want %v", i, !want, want)
		}
	}
	q.TurnedAway()
	q.Release(80*time.Millisecond, LetIn)
	if !q.Take(2) {
		t.Error("no call may wait after one has entered")
	}
	q.Release(3*time.Second, TimeOver)
	q.Release(2*time.Minute, Left)
	got := q.Measure(now)
	want := WaitMeasures{LetIn: 1, TimeOver: 1, Left: 1, TurnedAway: 1, Sum: 123*time.Second + 80*time.Millisecond}
	want.Buckets[1], want.Buckets[6], want.Buckets[len(WaitBounds)] = 1, 1, 1
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
