package event

import (
	"fmt"
	"testing"
)

func TestEventLog(t *testing.T) {
	var l Log
	for i := range Kept + 10 {
		if e := l.Add(Event{Kind: fmt.Sprint(i)}); e.ID != uint64(i+1) {
			t.Fatalf("event %d has the ID %d", i, e.ID)
		}
	}
	ids := func(list []Event) (first, last uint64, n int) {
		for i, e := range list {
			if i > 0 && e.ID != list[i-1].ID+1 {
				t.Fatalf("event %d follows %d", e.ID, list[i-1].ID)
			}
			if want := fmt.Sprint(e.ID - 1); e.Kind != want {
				t.Fatalf("event %d is %q", e.ID, e.Kind)
			}
		}
		if len(list) == 0 {
			return 0, 0, 0
		}
		return list[0].ID, list[len(list)-1].ID, len(list)
	}
	for _, c := range []struct {
		since, first, last uint64
	}{
		{0, 11, 1010}, // the log has dropped the first ten
		{5, 11, 1010},
		{1000, 1001, 1010},
		{1009, 1010, 1010},
		{1010, 0, 0},
		{5000, 11, 1010}, // from another process
	} {
		first, last, n := ids(l.Since(c.since))
		if first != c.first || last != c.last || n > 0 && uint64(n) != c.last-c.first+1 {
			t.Errorf("since %d: got %d to %d, want %d to %d", c.since, first, last, c.first, c.last)
		}
	}
}

func TestSubscription(t *testing.T) {
	var l Log
	l.Add(Event{Kind: "before"})
	known, s := l.Subscribe(0)
	_, slow := l.Subscribe(1)
	if len(known) != 1 || known[0].Kind != "before" {
		t.Errorf("known at first: %+v", known)
	}
	l.Add(Event{Kind: "after"})
	if e := <-s.Events; e.ID != 2 || e.Kind != "after" {
		t.Errorf("got %+v", e)
	}
	for range 2 * cap(slow.Events) {
		l.Add(Event{})
		<-s.Events
	}
	n := 0
	for range slow.Events { // ends because the subscription was dropped
		n++
	}
	if n != cap(slow.Events) || !slow.TooSlow() {
		t.Errorf("the slow one got %d events, too slow: %v", n, slow.TooSlow())
	}
	s.Close()
	if _, open := <-s.Events; open || s.TooSlow() {
		t.Errorf("closed: still open %v, too slow %v", open, s.TooSlow())
	}
	s.Close() // a second call is allowed
	slow.Close()
	l.Add(Event{})
	if len(l.subscribers) != 0 {
		t.Errorf("%d subscribers are left", len(l.subscribers))
	}
}
