package fleet

import "time"

// An Opinion is what the others say about an endpoint.
type Opinion struct {
	Open   int // instances whose breaker is open
	Fails  int // others whose latest calls there have failed
	Active int // instances that had calls there lately, as far as known, or whose breaker is open
	Others int // all other instances
	Trying int // of Open, those that had calls there lately, as far as known
}

// Agrees reports whether so many others have opened that an instance should be wary: two, and half of those that
// have calls there. Those whose latest calls have failed count too, if there are three in all: a single failure may be
// chance. own says that the instance has calls itself.
func (o Opinion) Agrees(own bool) bool { return o.agrees(own, false) }

// AgreesWith is Agrees for an instance whose own latest calls there have failed, so that it is one of
// the half.
func (o Opinion) AgreesWith() bool { return o.agrees(true, true) }

func (o Opinion) agrees(own, fails bool) bool {
	ill, active := o.Open, o.Active
	if ill+o.Fails >= 3 {
		ill += o.Fails
	}
	if ill < 2 {
		return false
	}
	if own {
		active++
	}
	if fails {
		ill++
	}
	return 2*ill >= active
}

// Settled reports whether so many have opened, or are about to, that one more changes nobody's mind.
func (o Opinion) Settled() bool {
	ill := o.Open + o.Fails
	return ill >= 2 && 5*ill >= 3*(o.Active+1)
}

// Opinion returns what the instances that are there say about a scope of an endpoint; an empty one: about the
// whole.
func (b *Book) Opinion(id, scope string, now time.Time) (o Opinion) {
	b.mu.Lock()
	defer b.mu.Unlock()
	place, whole := Short(Place(id, scope)), Short(id)
	for _, p := range b.peers {
		if now.Before(p.Until) {
			o.Others++
			if p.hasCalls(place, whole) {
				o.Active++
			}
		}
	}
	for _, n := range b.facts[id][scope] { // one of each instance
		opened, fails := n.State == Opened, n.State == Failing
		p := b.sayerLocked(n, now)
		if n.Kind != Breaker || !opened && !fails || p == nil {
			continue
		}
		calls := p.hasCalls(place, whole)
		if !calls {
			o.Active++
		}
		switch {
		case fails:
			o.Fails++
		case calls:
			o.Trying++
			fallthrough
		default:
			o.Open++
		}
	}
	return o
}
