package endpoint

import (
	"testing"
	"time"
)

// TestADeadConnectionIsOneFailure checks which failures count of those with which connections die.
func TestADeadConnectionIsOneFailure(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	first, again := &Ticket{DiedWith: true}, &Ticket{DiedWith: true, DiedAgain: true}
	served := now
	var l lost
	for i, step := range []struct {
		ticket *Ticket
		serves bool // something has succeeded before
		isOne  bool
	}{
		{first, true, false}, {again, false, true}, {again, false, true},
		{first, false, false}, {again, false, false}, // a second connection, and no success
		{again, true, true}, // a late one
		{first, false, false}, {again, false, true},
		{first, true, false}, {again, true, true},
	} {
		now = now.Add(time.Second)
		if step.serves {
			served = now
			now = now.Add(time.Millisecond)
		}
		if got := l.isOne(step.ticket, served, now); got != step.isOne {
			t.Errorf("step %d: %t", i, got)
		}
	}
}
