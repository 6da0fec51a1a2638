// Package sla records how well a pool and its endpoints do, and compares that with an
// objective. A [History] belongs to one pool. It holds one [Series] for the pool, as its
// clients see it, and one for each endpoint. A call that failed at one endpoint and
// succeeded at another is a failure of the first endpoint and a success of the pool. The
// caller records both.
//
// A series keeps counts, failures by kind, a latency sketch, failovers and seconds down. It
// keeps steps of 10 s for 3 hours, of 1 minute for 3 days and of 1 hour for 40 days. Steps
// without calls take no memory. Steps are dropped by number, not by age, so a clock that
// leaps ahead empties nothing. A full series takes under 2 MiB whatever is recorded.
// [Series] documents a clock that jumps back.
//
// An [Objective] turns a series into a [Standing]: error budget and burn rates (Beyer et
// al., The Site Reliability Workbook, chapter 5). An [Alert] reports when burning starts
// and ends. A [Snapshot] is an immutable copy of a history. [NewReport] makes reports from
// snapshots, and a [Keeper] stores them.
//
// This package starts no goroutine and reads no clock.
package sla

import (
	"strconv"
	"time"
)

// Kind is the result of a call or an attempt.
type Kind uint8

const (
	Success     Kind = iota
	Dial             // no connection
	TLS              // no TLS session
	Timeout          // no response in time
	Reset            // the connection broke before a response
	Status           // a status that counts as a failure
	RateLimited      // 429
	Denied           // 401, 402, 403
	Truncated        // the body ended early
	Stalled          // the body stopped arriving
	AllDown          // refused because no endpoint was available; only of a pool
	Full             // refused because the available endpoints had as many calls as they may; only of a pool
	Cancelled        // the client left: neither a success nor a failure

	failureKinds = int(Full) // Dial to Full
)

var kindNames = [...]string{"success", "dial", "tls", "timeout", "reset", "status", "rate_limited", "denied", "truncated", "stalled", "all_down", "full", "cancelled"}

// String returns the kind's name in metrics and reports, such as rate_limited.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return "Kind(" + strconv.Itoa(int(k)) + ")"
}

// Failed reports whether k is a failure.
func (k Kind) Failed() bool { return k >= Dial && k <= Full }

// Outcome is the result of a call or an attempt.
type Outcome struct {
	Kind Kind

	// Latency is the time to the first byte of a success. Failures ignore it: a failure
	// counts against availability, not against latency. At 0 or below the latency is
	// unknown: the success counts without a latency.
	Latency time.Duration
}

// Failures counts failures by kind.
type Failures [failureKinds]uint64

// Of returns the number of failures of kind k, or 0 if k is not a failure.
func (f Failures) Of(k Kind) uint64 {
	if !k.Failed() {
		return 0
	}
	return f[k-Dial]
}

// Total returns the number of failures of all kinds.
func (f Failures) Total() (n uint64) {
	for _, v := range f {
		n += v
	}
	return n
}

// Counts holds the counts of a period.
type Counts struct {
	Calls     uint64 // successes and failures
	Failures  Failures
	Cancelled uint64 // not included in Calls
	Down      time.Duration
}

// Availability returns the part of the calls that succeeded, or 1 without calls.
func (c Counts) Availability() float64 { return ratio(c.Calls-c.Failures.Total(), c.Calls) }

// ratio returns good/all, or 1 if all is 0.
func ratio(good, all uint64) float64 {
	if all == 0 {
		return 1
	}
	return float64(good) / float64(all)
}
