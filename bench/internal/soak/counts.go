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
	MetricAttempts  int    `json:"attempts_by_metrics"`
	MetricCalls     int    `json:"calls_by_metrics"`
	SLACalls        int    `json:"calls_by_sla"`
	SLAFailed       int    `json:"failed_by_sla"`
	SLACancelled    int    `json:"cancelled_by_sla"`
}

// judgeCounts compares the counts of clients, endpoint states, events, metrics and the SLA.
func (t *trial) judgeCounts() {
	pool, err := t.admin.pool()
	if err != nil {
		t.problem("reading the pool: %v", err)
		return
	}
	t.judgePool(pool)
	if report, err := t.admin.sla(); err != nil {
		t.problem("reading the report: %v", err)
	} else {
		t.judgeSLA(report)
	}
	switch metrics, err := t.admin.metrics(); {
	case err != nil:
		t.problem("%v", err)
	case len(metrics) == 0:
		t.problem("the pool has no metrics")
	default:
		t.judgeMetrics(metrics)
	}
}

// judgePool compares attempts at the endpoints with the clients' calls and the failover
// events.
func (t *trial) judgePool(pool poolView) {
	n, c := &t.Counts, t.Calls
	for _, e := range pool.Endpoints {
		if e.InFlight != 0 {
			t.problem("endpoint %s has %d attempts in flight after the traffic has ended", e.Name, e.InFlight)
		}
		if e.Attempts != e.Successes+e.Failures+e.Cancelled {
			t.problem("endpoint %s: %d attempts, but %d successes + %d failures + %d cancelled", e.Name, e.Attempts, e.Successes, e.Failures, e.Cancelled)
		}
		n.Attempts += e.Attempts
		n.Successes += e.Successes
		n.Failures += e.Failures
		n.Cancelled += e.Cancelled
	}
	n.FailoverEvents, n.Rescued = t.admin.failovers, t.admin.rescued
	if calls := int(n.Attempts) - n.FailoverEvents; calls != c.Sent {
		t.problem("clients sent %d calls; %d attempts - %d failover events = %d", c.Sent, n.Attempts, n.FailoverEvents, calls)
	}
	// The last attempt of a call has the outcome that its client saw. The attempts before
	// it failed or were ended in favour of another.
	//
	// When a client leaves, the whole response may already be on its way. The client cannot
	// know that. This is rare, and every source must count it as a success.
	n.LeftLate = int(n.Successes) - c.OK - c.SocketsCut
	if n.LeftLate < 0 || n.LeftLate > 1+c.Cancelled/500 {
		t.problem("%d correct responses, but %d successes", c.OK+c.SocketsCut, n.Successes)
	}
	if want := c.Cancelled - n.LeftLate + n.Rescued; int(n.Cancelled) != want {
		t.problem("%d clients cancelled and %d attempts were rescued, but %d were cancelled", c.Cancelled, n.Rescued, n.Cancelled)
	}
	if want := c.Explained + c.Unexplained + n.FailoverEvents - n.Rescued; int(n.Failures) != want {
		t.problem("%d calls failed and %d more attempts did, but %d failures", c.Explained+c.Unexplained, n.FailoverEvents-n.Rescued, n.Failures)
	}
}

// judgeSLA compares what clients saw with the history of the SLA.
func (t *trial) judgeSLA(report slaView) {
	n, c := &t.Counts, t.Calls
	n.SLACalls, n.SLAFailed, n.SLACancelled = report.Total.Calls+report.Total.Cancelled, report.Total.Failed, report.Total.Cancelled
	if n.SLACalls != c.Sent {
		t.problem("clients sent %d calls, the SLA has %d", c.Sent, n.SLACalls)
	}
	if failed := c.Explained + c.Unexplained; n.SLAFailed != failed {
		t.problem("%d calls of clients failed, %d by the SLA", failed, n.SLAFailed)
	}
	if want := c.Cancelled - n.LeftLate; n.SLACancelled != want {
		t.problem("%d clients cancelled, %d by the SLA", want, n.SLACancelled)
	}
}

// judgeMetrics compares metrics with endpoint states, events and clients.
func (t *trial) judgeMetrics(metrics sums) {
	n, c := &t.Counts, t.Calls
	n.MetricAttempts = metrics.of("attempts_total")
	n.FailoverMetrics = metrics.of("failovers_total")
	n.MetricCalls = metrics.of("calls_total")
	if n.MetricAttempts != int(n.Attempts) {
		t.problem("%d attempts, %d by metrics", n.Attempts, n.MetricAttempts)
	}
	if n.FailoverMetrics != n.FailoverEvents {
		t.problem("%d failovers by events, %d by metrics", n.FailoverEvents, n.FailoverMetrics)
	}
	if rescued := metrics.of("failovers_total rescued"); rescued != n.Rescued {
		t.problem("%d rescued by events, %d by metrics", n.Rescued, rescued)
	}
	if successes := metrics.of("attempts_total success"); successes != int(n.Successes) {
		t.problem("%d successes, %d by metrics", n.Successes, successes)
	}
	if cancelled := metrics.of("attempts_total cancelled"); cancelled != int(n.Cancelled) {
		t.problem("%d cancelled, %d by metrics", n.Cancelled, cancelled)
	}
	if n.MetricCalls != c.Sent {
		t.problem("clients sent %d calls, %d by metrics", c.Sent, n.MetricCalls)
	}
	// The response to a WebSocket request is complete when the protocol has been switched.
	good, wantGood := metrics.of("calls_total success"), c.OK+c.SocketsCut+n.LeftLate
	if good != wantGood {
		t.problem("%d correct responses, %d by metrics", wantGood, good)
	}
	cancelled, wantCancelled := metrics.of("calls_total cancelled"), c.Cancelled-n.LeftLate
	if cancelled != wantCancelled {
		t.problem("%d clients cancelled, %d by metrics", wantCancelled, cancelled)
	}
	if failed, want := n.MetricCalls-good-cancelled, c.Explained+c.Unexplained; failed != want {
		t.problem("%d calls of clients failed, %d by metrics", want, failed)
	}
}
