package endpoint

import (
	"time"

	"github.com/apifailover/caddy-failover/internal/breaker"
)

// A client leaves a response in silence if it leaves while nothing of the body comes, not counting
// comments and pings, for as long as makes an attempt unanswered, and no body has ended well since the
// silence began. If all clients give up on bodies that stall, nothing else shows that. As with
// unanswered attempts, several in a row make the endpoint a suspect.
//
// Streams of notifications are silent most of the time, and end when clients leave. So silence counts
// only where bodies end by themselves: the last endsKnown did, or the API has no others.
const endsKnown = 20

// Responses on one HTTP/2 connection that clients leave within leftTogether count once: perhaps only the
// connection is dead.
const leftTogether = time.Second

// silence counts responses left in silence. The zero value has seen none. The state's mutex guards it.
type silence struct {
	run    int       // such responses in a row
	left   time.Time // the latest of them
	ended  time.Time // when a body last ended well, as far as known
	ends   int       // bodies that ended well since a client left a silent one beside them; at most endsKnown
	opened bool      // silence opened the breaker last, if clients that gave up did
}

// end notes that n bodies have ended well at now or before.
func (q *silence) end(now time.Time, n int) {
	q.run, q.ended, q.ends = 0, now, min(q.ends+n, endsKnown)
}

// leftInSilence takes an attempt whose client left a body that was silent for a time. It reports
// whether the control loop should look at the endpoint.
func (c *condition) leftInSilence(f Watched, silent time.Duration, now time.Time, cfg *breaker.Config) (changed bool) {
	t, q := f.own(), &c.silence
	others := now.Add(-silent).Before(q.ended)
	if others {
		q.ends = 0
	}
	again := t.DiedAgain && now.Sub(q.left) < leftTogether
	if again || others || q.ends < endsKnown && !t.Finite || silent < c.patience() || t.Doubtful || t.Permit.Generation != c.breaker.Generation {
		return c.breaker.Cancel(now, t.Permit)
	}
	t.reported = true
	c.faults.slowest = causeOf(f, "client left a response that was silent for "+rounded(silent).String())
	if c.breaker.OnTrial(cfg) {
		c.breaker.AttemptEnded(true)
		return c.breaker.Unanswered(now, cfg, t.Permit)
	}
	q.run, q.left = q.run+1, now
	return c.isLeftWaiting()
}
