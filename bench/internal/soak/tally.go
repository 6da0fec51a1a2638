package soak

import (
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/apifailover/caddy-failover/bench/internal/client"
)

// Calls holds what clients saw.
type Calls struct {
	Sent        int            `json:"sent"`
	OK          int            `json:"ok"`
	SocketsCut  int            `json:"websockets_cut_off"` // cut off after the protocol was switched, as allowed
	Explained   int            `json:"failed_as_the_rules_say"`
	Unexplained int            `json:"failed_without_reason"`
	Cancelled   int            `json:"cancelled_by_client"`
	Killed      int            `json:"cut_off_by_a_kill"`
	Starved     int            `json:"starved"` // failed because the machine stood still
	Resent      int            `json:"resent"`  // sent again because a reload closed the connection
	Kinds       map[string]int `json:"kinds"`   // Sent by kind and protocol
}

// add adds the calls of another process or pool.
func (c *Calls) add(d Calls) {
	c.Sent += d.Sent
	c.OK += d.OK
	c.SocketsCut += d.SocketsCut
	c.Explained += d.Explained
	c.Unexplained += d.Unexplained
	c.Cancelled += d.Cancelled
	c.Killed += d.Killed
	c.Starved += d.Starved
	c.Resent += d.Resent
	for kind, n := range d.Kinds {
		c.Kinds[kind] += n
	}
}

// OverHTTP2 returns the number of calls sent over HTTP/2.
func (c Calls) OverHTTP2() (n int) {
	for kind, sent := range c.Kinds {
		for _, p := range []client.Protocol{client.H2C, client.H2TLS} {
			if strings.HasSuffix(kind, over(p)) {
				n += sent
			}
		}
	}
	return n
}

// over returns the suffix of a kind's name for a protocol.
func over(p client.Protocol) string { return " over " + string(p) }

// failed returns the number of calls that failed for the plugin too.
func (c Calls) failed() int { return c.Explained + c.Starved + c.Unexplained }

// A tally counts the calls of one pool in one process. All methods are safe for concurrent use.
type tally struct {
	mu          sync.Mutex
	calls       Calls
	unexplained []string // the first 20 unexplained failures
}

func newTally() *tally { return &tally{calls: Calls{Kinds: make(map[string]int)}} }

// count counts the result of a request that ended at a time from the start.
func (t *tally) count(f fate, at time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.calls.Sent++
	t.calls.Kinds[f.kind]++
	switch {
	case f.failure == killed:
		t.calls.Killed++
	case f.cancelled:
		t.calls.Cancelled++
	case f.failure == "":
		t.calls.OK++
	case f.failure == explained:
		t.calls.Explained++
	case f.failure == starved:
		t.calls.Starved++
	case f.failure == socketCut:
		t.calls.SocketsCut++
	default:
		t.calls.Unexplained++
		if len(t.unexplained) < 20 {
			t.unexplained = append(t.unexplained, fmt.Sprintf("%s at %.1f s: %s", f.kind, at.Seconds(), f.failure))
		}
	}
}

// resend counts a request that is sent again.
func (t *tally) resend() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.calls.Resent++
}

// counted returns the counts and the unexplained failures.
func (t *tally) counted() (Calls, []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	calls := t.calls
	calls.Kinds = maps.Clone(calls.Kinds)
	return calls, t.unexplained
}
