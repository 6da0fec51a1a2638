package soak

// Counts holds the same numbers from several sources.
type Counts struct {
	Attempts        uint64 `json:"attempts"`
	Successes       uint64 `json:"successes"`
	Failures        uint64 `json:"failures"`
	Cancelled       uint64 `json:"cancelled"`
	FailoverEvents  int    `json:"failovers_by_events"`
	FailoverMetrics int    `json:"failovers_by_metrics"`
	Rescued         int    `json:"rescued_by_events"` // rescues among the failovers; their attempts are cancelled
	LeftLate        int    `json:"left_late"`         // clients that left after the whole response was sent
	Waits           int    `json:"waits"`
	LeftWaiting     int    `json:"left_waiting"` // clients that left while their request waited
	Again           int    `json:"again"`        // attempts that asked the same endpoint again after a wait, less calls without any attempt
	MetricAttempts  int    `json:"attempts_by_metrics"`
	MetricCalls     int    `json:"calls_by_metrics"`
	SLACalls        int    `json:"calls_by_sla"`
	SLAFailed       int    `json:"failed_by_sla"`
	SLACancelled    int    `json:"cancelled_by_sla"`
}

// add adds the counts of another process or pool.
func (n *Counts) add(m Counts) {
	n.Attempts += m.Attempts
	n.Successes += m.Successes
	n.Failures += m.Failures
	n.Cancelled += m.Cancelled
	n.FailoverEvents += m.FailoverEvents
	n.FailoverMetrics += m.FailoverMetrics
	n.Rescued += m.Rescued
	n.LeftLate += m.LeftLate
	n.Waits += m.Waits
	n.LeftWaiting += m.LeftWaiting
	n.Again += m.Again
	n.MetricAttempts += m.MetricAttempts
	n.MetricCalls += m.MetricCalls
	n.SLACalls += m.SLACalls
	n.SLAFailed += m.SLAFailed
	n.SLACancelled += m.SLACancelled
}

// A verdict compares the counts of one pool in one process.
type verdict struct {
	pool    string
	calls   Calls
	moves   moves
	counts  Counts
	problem func(format string, args ...any)
}

// judge compares the counts of clients, endpoint states, events, metrics and the SLA. before is
// what the SLA had when the process began.
func (v *verdict) judge(admin *adminView, before slaView) {
	if c := v.calls; c.Sent != c.OK+c.SocketsCut+c.failed()+c.Cancelled {
		v.problem("clients: %d sent, but %d correct + %d WebSockets cut off + %d failed + %d cancelled",
			c.Sent, c.OK, c.SocketsCut, c.failed(), c.Cancelled)
	}
	pool, err := admin.pool(v.pool)
	if err != nil {
		v.problem("reading the pool: %v", err)
		return
	}
	v.judgePool(pool)
	if report, err := admin.sla(v.pool); err != nil {
		v.problem("reading the report: %v", err)
	} else {
		v.judgeSLA(report.minus(before))
	}
	switch metrics, err := admin.metrics(v.pool); {
	case err != nil:
		v.problem("%v", err)
	case len(metrics) == 0:
		v.problem("the pool has no metrics")
	default:
		v.judgeMetrics(metrics)
		v.judgeWaits(pool.Waiting, metrics)
	}
}

// judgePool compares attempts at the endpoints with the clients' calls and the failover
// events.
func (v *verdict) judgePool(pool poolView) {
	n, c := &v.counts, v.calls
	for _, e := range pool.Endpoints {
		if e.InFlight != 0 {
			v.problem("endpoint %s has %d attempts in flight after the traffic has ended", e.Name, e.InFlight)
		}
		if e.Attempts != e.Successes+e.Failures+e.Cancelled {
			v.problem("endpoint %s: %d attempts, but %d successes + %d failures + %d cancelled", e.Name, e.Attempts, e.Successes, e.Failures, e.Cancelled)
		}
		if scoped := e.scoped(); v.pool == mixedPool && scoped != e.Attempts {
			v.problem("endpoint %s: %d attempts, %d by its scopes", e.Name, e.Attempts, scoped)
		}
		n.Attempts += e.Attempts
		n.Successes += e.Successes
		n.Failures += e.Failures
		n.Cancelled += e.Cancelled
	}
	n.FailoverEvents, n.Rescued = v.moves.failovers, v.moves.rescued
	// A call makes one attempt, and one more for each failover. After a wait it may ask the same
	// endpoint again, which is no failover. A call whose client left while it waited may have made
	// no attempt.
	n.LeftWaiting = pool.Waiting.Left
	n.Again = int(n.Attempts) - n.FailoverEvents - c.Sent
	if most := pool.Waiting.LetIn; n.Again < -n.LeftWaiting || n.Again > most {
		v.problem("clients sent %d calls; %d attempts - %d failover events = %d, but %d waits ended with an attempt and in %d clients left",
			c.Sent, n.Attempts, n.FailoverEvents, int(n.Attempts)-n.FailoverEvents, most, n.LeftWaiting)
	}
	// The last attempt of a call has the outcome that its client saw, unless the client left while
	// the call waited to make another. The attempts before it failed or were ended in favour of
	// another.
	//
	// When a client leaves, the whole response may already be on its way. The client cannot
	// know that. This is rare, and every source must count it as a success.
	n.LeftLate = int(n.Successes) - c.OK - c.SocketsCut
	if n.LeftLate < 0 || n.LeftLate > 1+c.Cancelled/500 {
		v.problem("%d correct responses, but %d successes", c.OK+c.SocketsCut, n.Successes)
	}
	if want := c.Cancelled - n.LeftLate - n.LeftWaiting + n.Rescued; int(n.Cancelled) != want {
		v.problem("%d clients cancelled, %d of them while they waited, and %d attempts were rescued, but %d were cancelled", c.Cancelled, n.LeftWaiting, n.Rescued, n.Cancelled)
	}
	more := n.FailoverEvents - n.Rescued + n.LeftWaiting + n.Again
	if want := c.failed() + more; int(n.Failures) != want {
		v.problem("%d calls failed and %d more attempts did, but %d failures", c.failed(), more, n.Failures)
	}
}

// scoped returns the attempts of all scopes.
func (e endpointView) scoped() (n uint64) {
	for _, s := range e.Scopes {
		n += s.Attempts
	}
	return n
}

// judgeWaits compares how waits ended with the metrics. Every request waits long enough for an
// endpoint, so none may be in vain.
func (v *verdict) judgeWaits(waiting waitingView, metrics sums) {
	v.counts.Waits = waiting.LetIn + waiting.TimeOver + waiting.Left
	if waiting.Calls != 0 {
		v.problem("%d requests wait after the traffic has ended", waiting.Calls)
	}
	if waiting.TimeOver+waiting.TurnedAway > 0 {
		v.problem("%d waits were in vain, and %d requests found no place", waiting.TimeOver, waiting.TurnedAway)
	}
	for result, n := range map[string]int{"let_in": waiting.LetIn, "time_over": waiting.TimeOver, "left": waiting.Left, "turned_away": waiting.TurnedAway} {
		if by := metrics.of("waits_total " + result); by != n {
			v.problem("%d waits ended as %s, %d by metrics", n, result, by)
		}
	}
}

// judgeSLA compares what clients saw with the history of the SLA.
func (v *verdict) judgeSLA(report slaView) {
	n, c := &v.counts, v.calls
	n.SLACalls, n.SLAFailed, n.SLACancelled = report.Total.Calls+report.Total.Cancelled, report.Total.Failed, report.Total.Cancelled
	if n.SLACalls != c.Sent {
		v.problem("clients sent %d calls, the SLA has %d", c.Sent, n.SLACalls)
	}
	if failed := c.failed(); n.SLAFailed != failed {
		v.problem("%d calls of clients failed, %d by the SLA", failed, n.SLAFailed)
	}
	if want := c.Cancelled - n.LeftLate; n.SLACancelled != want {
		v.problem("%d clients cancelled, %d by the SLA", want, n.SLACancelled)
	}
}

// judgeMetrics compares metrics with endpoint states, events and clients.
func (v *verdict) judgeMetrics(metrics sums) {
	n, c := &v.counts, v.calls
	n.MetricAttempts = metrics.of("attempts_total")
	n.FailoverMetrics = metrics.of("failovers_total")
	n.MetricCalls = metrics.of("calls_total")
	if n.MetricAttempts != int(n.Attempts) {
		v.problem("%d attempts, %d by metrics", n.Attempts, n.MetricAttempts)
	}
	if n.FailoverMetrics != n.FailoverEvents {
		v.problem("%d failovers by events, %d by metrics", n.FailoverEvents, n.FailoverMetrics)
	}
	if rescued := metrics.of("failovers_total rescued"); rescued != n.Rescued {
		v.problem("%d rescued by events, %d by metrics", n.Rescued, rescued)
	}
	if successes := metrics.of("attempts_total success"); successes != int(n.Successes) {
		v.problem("%d successes, %d by metrics", n.Successes, successes)
	}
	if cancelled := metrics.of("attempts_total cancelled"); cancelled != int(n.Cancelled) {
		v.problem("%d cancelled, %d by metrics", n.Cancelled, cancelled)
	}
	if n.MetricCalls != c.Sent {
		v.problem("clients sent %d calls, %d by metrics", c.Sent, n.MetricCalls)
	}
	// The response to a WebSocket request is complete when the protocol has been switched.
	good, wantGood := metrics.of("calls_total success"), c.OK+c.SocketsCut+n.LeftLate
	if good != wantGood {
		v.problem("%d correct responses, %d by metrics", wantGood, good)
	}
	cancelled, wantCancelled := metrics.of("calls_total cancelled"), c.Cancelled-n.LeftLate
	if cancelled != wantCancelled {
		v.problem("%d clients cancelled, %d by metrics", wantCancelled, cancelled)
	}
	if failed, want := n.MetricCalls-good-cancelled, c.failed(); failed != want {
		v.problem("%d calls of clients failed, %d by metrics", want, failed)
	}
}
