// Package sla remembers how well a pool and its endpoints did, and measures that
// against an objective. A [History] belongs to one pool. It holds a [Series] for
// the pool, as its clients saw it, and one for each endpoint: a call that failed
// at one endpoint and was answered by another is a failure of the endpoint and a
// success of the pool. The caller records it in both.
//
// A series keeps counts, failures by kind, a latency sketch, failovers and
// seconds down in steps of 10 s for 3 hours, of 1 minute for 3 days and of 1 hour
// for 40 days. Steps without calls cost nothing, and steps are dropped by number,
// not by age, so a clock that leaps ahead empties nothing. A full series is under
// 2 MiB whatever is recorded; [Series] says what a clock that jumps back does.
//
// An [Objective] turns a series into a [Standing]: error budget and burn rates
// (Beyer et al., The Site Reliability Workbook, chapter 5). An [Alert] says when
// burning begins and ends. A [Snapshot] is an immutable copy of a history: it is
// what reports are made from ([NewReport]), and what a [Keeper] stores.
//
// Nothing here starts a goroutine or reads a clock.
package sla

import (
	"strconv"
	"time"
)

// Kind is what a call or an attempt came to.
type Kind uint8

const (
	Success     Kind = iota
	Dial             // no connection
	TLS              // no TLS session
	Timeout          // no answer in time
	Reset            // the connection broke before an answer
	Status           // a status that counts as failure
	RateLimited      // 429
	Denied           // 401, 402, 403
	Truncated        // the body ended early
	Stalled          // the body stopped coming
	AllDown          // refused, because every endpoint was out: of a pool only
	Full             // refused, because those that take calls had as many as they may: of a pool only
	Cancelled        // the client left: neither success nor failure

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

// Failed reports whether k is a kind of failure.
func (k Kind) Failed() bool { return k >= Dial && k <= Full }

// Outcome is how a call or an attempt ended.
type Outcome struct {
	Kind Kind

	// Latency is the time to the first byte of a success. Of other kinds it is
	// ignored: a failure counts against availability, however fast it was. Zero or
	// less is unknown, and counts as a success without latency.
	Latency time.Duration
}

// Failures counts failures by kind.
type Failures [failureKinds]uint64

// Of returns how many were of kind k, 0 where k is no kind of failure.
func (f Failures) Of(k Kind) uint64 {
	if !k.Failed() {
		return 0
	}
	return f[k-Dial]
}

// Total returns how many there were of all kinds.
func (f Failures) Total() (n uint64) {
	for _, v := range f {
		n += v
	}
	return n
}

// Counts is what was counted over some time.
type Counts struct {
	Calls     uint64 // that came to a success or a failure
	Failures  Failures
	Cancelled uint64 // not among Calls
	Down      time.Duration
}

// Availability returns the part of the calls that succeeded, 1 where there were
// none.
func (c Counts) Availability() float64 { return ratio(c.Calls-c.Failures.Total(), c.Calls) }

// ratio returns good/all, 1 where all is 0.
func ratio(good, all uint64) float64 {
	if all == 0 {
		return 1
	}
	return float64(good) / float64(all)
}
