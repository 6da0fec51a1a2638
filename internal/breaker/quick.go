package breaker

import "time"

// quick makes a recovery quick: the share grows at each success, not only at the end of a
// step. A recovery is quick if checks have seen the fault and its end, and the endpoint was
// well for at least forgiveAfter before it opened. The first failure ends it, and each
// failure slows the steps that follow, so the load settles below the endpoint's capacity.
//
// Until the first failure of a recovery, a success adds more if the endpoint has few calls: where a
// recovery is quick, and where checks have passed while the endpoint was out.
//
// The zero value is a recovery that is not quick. Its breaker's mutex guards it.
type quick struct {
	may      bool    // the endpoint was well for long before it opened; kept until a share has failed
	on       bool    // nothing has failed yet
	setbacks int     // failures since the recovery was quick
	each     float64 // what a success adds to the share; 0: shareOfSuccess
	began    float64 // the share at the beginning of the step
	routed   float64 // the share for which routing tables were rebuilt last
}

const (
	// quickMost is how many times the share may grow in a step of a quick recovery.
	quickMost = 4
	// quickRouted is how many times the share must have grown to be worth a routing table.
	quickRouted = 1.1
	// Where a recovery is quick, the share grows as if the endpoint had at least quickRate calls a second, and
	// where checks have passed all the time, upheldRate. A success adds at most mostOfSuccess. If a hundred proxies return
	// to an endpoint with little capacity, as after a restart, these keep the load below 1.2
	// and 1.3 times the capacity.
	quickRate     = 30
	upheldRate    = 40
	mostOfSuccess = 0.04
)

// begin begins a recovery. proven says that checks have seen the fault and its end, upheld that they have
// passed all the time. pace is how many calls a second the endpoint had; 0: unknown.
func (q *quick) begin(proven, upheld bool, pace float64) {
	q.on = proven && q.may
	rate := 0.0
	switch {
	case !q.may:
	case proven:
		rate = quickRate
	case upheld:
		rate = upheldRate
	}
	if pace > 0 {
		q.each = min(mostOfSuccess, shareOfSuccess*rate/pace)
	}
}

// setBack takes a failure, and reports whether the recovery was quick until now.
func (q *quick) setBack() (was bool) {
	was, q.each = q.on, 0
	if q.on || q.setbacks > 0 {
		q.on = false
		q.setbacks++
	}
	return was
}

// ofSuccess returns what each success of a step adds to the share.
func (q *quick) ofSuccess() float64 { return max(shareOfSuccess, q.each) / float64(1+q.setbacks) }

// callSucceeded counts the success of a call at a recovering endpoint. It reports whether
// routing tables must be rebuilt.
func (b *Breaker) callSucceeded(now time.Time, cfg *Config) (changed bool) {
	if !b.quick.on || b.Share == 0 {
		return b.stepSucceeded(now, cfg)
	}
	b.successes++
	b.grown = true
	b.Share = min(1, b.mostGrowth(quickMost)*b.quick.began, b.Share+b.quick.ofSuccess())
	if b.Share >= 1 {
		b.Transition(Closed, now, ReasonRecovered)
		return true
	}
	if b.Share < quickRouted*b.quick.routed {
		return false
	}
	b.quick.routed = b.Share
	return true
}

// overshot takes the failure that ends a quick recovery. It begins a step that counts as failed
// already, so that failures of calls in flight do not halve the new share again.
func (b *Breaker) overshot(now time.Time, cfg *Config) {
	b.Share = max(cfg.Start, b.Share/2)
	b.beginStep(now)
	b.stepFailed = true
}
