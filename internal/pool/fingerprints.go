package pool

import (
	"sync"
	"time"
)

// A Fingerprint tells requests apart. Requests of one client to one path have the same Coarse, and those that
// are also the same in query, length and, where it is known, body have the same Fine.
type Fingerprint struct{ Coarse, Fine uint64 }

const (
	// printFor is how long the result of a request says something about requests like it.
	printFor = 10 * time.Second
	// mostPrints bounds the fingerprints that are kept.
	mostPrints = 2048
)

// Fingerprints remember whether requests were served lately, by fingerprint. While all endpoints are out, a
// request that is unlike those that failed may still be tried: one client's requests that fail everywhere then
// close nothing for others. Only calls that fail, and calls while all endpoints are out, come here. The zero
// value is ready for use. All methods may be called concurrently.
type Fingerprints struct {
	mu     sync.Mutex
	served time.Time // when an endpoint last served a request that Admits let through
	prints map[uint64]lastResult
	fresh  allowance // for requests unlike any that failed
	alike  allowance // for requests that only their query, length or body tells from those that failed
	held   allowance // for both while the endpoint has asked for a cooldown
}

// A lastResult is the latest result of requests with one fingerprint.
type lastResult struct {
	at     time.Time
	served bool
}

// Failed notes that no endpoint has served a request.
func (f *Fingerprints) Failed(p Fingerprint, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.noteLocked(p, lastResult{now, false})
}

// Served notes that an endpoint has served a request that Admits let through.
func (f *Fingerprints) Served(p Fingerprint, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fresh.refund()
	f.alike.refund()
	f.held.refund()
	f.served = now
	f.noteLocked(p, lastResult{now, true})
}

func (f *Fingerprints) noteLocked(p Fingerprint, v lastResult) {
	if f.prints == nil {
		f.prints = make(map[uint64]lastResult)
	}
	for print := range f.prints { // in random order
		if len(f.prints)+2 <= mostPrints {
			break
		}
		delete(f.prints, print)
	}
	f.prints[p.Coarse], f.prints[p.Fine] = v, v
}

// ServesOthers reports whether a request that Admits let through was served within othersFor. Requests that Admits
// refuses then make no trials, because they would fail.
func (f *Fingerprints) ServesOthers(now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return now.Sub(f.served) < othersFor
}

// othersFor is how long a request that was served shows that others can make the trials.
const othersFor = 2 * time.Second

// Admits reports whether a request may be tried although all endpoints are out, and counts it if so. It may if
// its like was served lately. If none of its like has failed lately either, it may at the rate of an allowance. held says
// that the endpoint has asked for a cooldown.
func (f *Fingerprints) Admits(p Fingerprint, now time.Time, held bool) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if v := f.prints[p.Fine]; !v.expired(now) {
		return v.served
	}
	if held {
		return f.held.take(heldPrints, now)
	}
	if v := f.prints[p.Coarse]; v.expired(now) || v.served {
		return f.fresh.take(newPrints, now)
	}
	return f.alike.take(alikePrints, now)
}

func (v lastResult) expired(now time.Time) bool { return now.Sub(v.at) >= printFor }

// The rates of allowances, in requests a second.
const (
	newPrints   = 10
	alikePrints = 5
	heldPrints  = 1
)

// An allowance lets requests through at a rate, up to two seconds' worth at once. A request that was served gives
// back twice what it took, so requests that are mostly served have no bound. The zero value is full.
type allowance struct {
	used float64
	at   time.Time
}

func (a *allowance) take(rate float64, now time.Time) bool {
	a.used = max(0, a.used-rate*max(0, now.Sub(a.at).Seconds()))
	a.at = now
	if a.used+1 > 2*rate {
		return false
	}
	a.used++
	return true
}

func (a *allowance) refund() { a.used = max(0, a.used-2) }
