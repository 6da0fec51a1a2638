package endpoint

import "iter"

// inFlight is a set of attempts. Adding or removing one does not touch the memory of others, which
// other cores use. The zero value is empty.
type inFlight struct {
	slots []Watched // nil: free
	free  []int32   // free slots
}

// add adds an attempt, which must be in no set.
func (s *inFlight) add(f Watched) {
	if n := len(s.free); n > 0 {
		at := s.free[n-1]
		s.free = s.free[:n-1]
		s.slots[at], f.own().slot = f, at+1
		return
	}
	s.slots = append(s.slots, f)
	f.own().slot = int32(len(s.slots))
}

// remove removes an attempt, and reports whether it was in the set.
func (s *inFlight) remove(t *Ticket) bool {
	if t.slot == 0 {
		return false
	}
	s.slots[t.slot-1] = nil
	s.free = append(s.free, t.slot-1)
	t.slot = 0
	if len(s.slots) > fewSlots && s.empty() {
		*s = inFlight{}
	}
	return true
}

// fewSlots is how many slots an empty set keeps.
const fewSlots = 256

// empty reports whether the set has no attempts.
func (s *inFlight) empty() bool { return len(s.free) == len(s.slots) }

// all returns the attempts, in no order.
func (s *inFlight) all() iter.Seq[Watched] {
	return func(yield func(Watched) bool) {
		for _, f := range s.slots {
			if f != nil && !yield(f) {
				return
			}
		}
	}
}
