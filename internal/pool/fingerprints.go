package pool

import (
	"sync"
	"time"
)

// A Fingerprint tells requests apart. Requests from one address, or from one network of IPv6, have the same Address.
// If they are also of one client, by its credentials, and to one path, they have the same Coarse. If also query,
// length and, where it is known, body are the same, they have the same Fine.
type Fingerprint struct{ Address, Coarse, Fine uint64 }

const (
	// printFor is how long the result of a request says something about requests like it.
	printFor = 10 * time.Second
	// failedFor is how long no request is tried that is the same as one that failed. Requests of one client that come
	// faster win all trials, so others must not have to win one.
	failedFor = 2 * time.Second
	// mostPrints bounds the fingerprints that are kept.
	mostPrints = 2048
)

// Fingerprints remember whether requests were served lately, by fingerprint. While all endpoints are out, a
// request that is unlike those that failed may still be tried: one client's requests that fail everywhere then
// close nothing for others. Only calls that fail, and calls while all endpoints are out, come here. The zero
// value is ready for use. All methods may be called concurrently.
type Fingerprints struct {
	mu     sync.Mutex
	served time.Time             // when an endpoint last served a request that Admits let through
	prints map[uint64]lastResult // at most half of mostPrints; then they become older
	older  map[uint64]lastResult // those noted before all of prints
	fresh  allowances            // for requests unlike any that failed, from other addresses
	beside allowances            // for requests unlike any that failed, from an address of some that failed
	alike  allowances            // for requests that only their query, length or body tells from those that failed
}

// A lastResult is the latest result of requests with one fingerprint.
type lastResult struct {
	at     time.Time
	served bool
	took   allowances // of an address that has failed: its part of beside
}

// Failed notes that no endpoint has served a request.
func (f *Fingerprints) Failed(p Fingerprint, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.noteLocked(lastResult{at: now}, p.Address, p.Coarse, p.Fine)
}

// Served notes that an endpoint has served a request that Admits let through.
func (f *Fingerprints) Served(p Fingerprint, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fresh.refund()
	f.beside.refund()
	if v := f.lastLocked(p.Address); !v.at.IsZero() {
		v.took.refund()
		f.setLocked(p.Address, v)
	}
	f.alike.refund()
	f.served = now
	f.noteLocked(lastResult{at: now, served: true}, p.Coarse, p.Fine) // a client that is sometimes served does not clear its address
}

func (f *Fingerprints) noteLocked(v lastResult, prints ...uint64) {
	for _, print := range prints {
		v.took = f.lastLocked(print).took
		f.setLocked(print, v)
	}
}

// lastLocked returns the last result of a fingerprint; the zero value: there is none.
func (f *Fingerprints) lastLocked(print uint64) lastResult {
	if v, ok := f.prints[print]; ok {
		return v
	}
	return f.older[print]
}

// setLocked keeps a result. It forgets the oldest ones if there are too many, so that many requests that are seen once push out
// none that come again and again.
func (f *Fingerprints) setLocked(print uint64, v lastResult) {
	if _, ok := f.prints[print]; !ok && len(f.prints) >= mostPrints/2 {
		f.older, f.prints = f.prints, f.older
		clear(f.prints)
	}
	if f.prints == nil {
		f.prints = make(map[uint64]lastResult)
	}
	f.prints[print] = v
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
// its like was served lately. If none of its like has failed lately either, it may at the rate of an allowance. A client
// that makes up credentials and paths uses up at most half of the allowance of addresses that failed. held says that the endpoint has
// asked for a cooldown.
func (f *Fingerprints) Admits(p Fingerprint, now time.Time, held bool) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if v := f.lastLocked(p.Fine); !v.expired(now) && (v.served || now.Sub(v.at) < failedFor) {
		return v.served
	}
	if v := f.lastLocked(p.Coarse); !v.expired(now) && !v.served {
		return f.alike.take(1, alikePrints, held, now)
	}
	v := f.lastLocked(p.Address)
	if v.expired(now) {
		return f.fresh.take(1, newPrints, held, now)
	}
	ok := v.took.take(0.5, newPrints, held, now)
	f.setLocked(p.Address, v)
	return ok && f.beside.take(1, newPrints, held, now)
}

func (v lastResult) expired(now time.Time) bool { return now.Sub(v.at) >= printFor }

// The rates of allowances, in requests a second.
const (
	newPrints   = 10
	alikePrints = 5
	heldPrints  = 1
)

// allowances are those of one kind of requests: while endpoints have failed, and while they have asked for a cooldown.
type allowances struct{ usual, held allowance }

// take lets a request through at a part of the rate, or of heldPrints. As many as in two seconds at the whole rate may come
// at once.
func (a *allowances) take(part, rate float64, held bool, now time.Time) bool {
	if held {
		return a.held.take(part*heldPrints, 2*heldPrints, now)
	}
	return a.usual.take(part*rate, 2*rate, now)
}

func (a *allowances) refund() {
	a.usual.refund()
	a.held.refund()
}

// An allowance lets requests through at a rate, and some at once. A request that was served gives
// back twice what it took, so requests that are mostly served have no bound. The zero value is full.
type allowance struct {
	used float64
	at   time.Time
}

func (a *allowance) take(rate, atOnce float64, now time.Time) bool {
	a.used = max(0, a.used-rate*max(0, now.Sub(a.at).Seconds()))
	a.at = now
	if a.used+1 > atOnce {
		return false
	}
	a.used++
	return true
}

func (a *allowance) refund() { a.used = max(0, a.used-2) }
