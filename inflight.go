package failover

import "iter"

// inFlight is a set of attempts. One that comes or goes touches no other: these are
// being worked on by other cores. The zero value is empty.
type inFlight struct {
	slots []*attempt // nil: free
	free  []int32    // slots
}

// add puts an attempt in, which is in no set.
func (s *inFlight) add(a *attempt) {
	if n := len(s.free); n > 0 {
		at := s.free[n-1]
		s.free = s.free[:n-1]
		s.slots[at], a.slot = a, at+1
		return
	}
	s.slots = append(s.slots, a)
	a.slot = int32(len(s.slots))
}

// remove takes an attempt out, and returns whether it was in.
func (s *inFlight) remove(a *attempt) bool {
	if a.slot == 0 {
		return false
	}
	s.slots[a.slot-1] = nil
	s.free = append(s.free, a.slot-1)
	a.slot = 0
	if len(s.slots) > fewSlots && s.empty() {
		*s = inFlight{}
	}
	return true
}

// fewSlots is how many slots a set keeps that is empty.
const fewSlots = 256

func (s *inFlight) empty() bool { return len(s.free) == len(s.slots) }

// all are the attempts, in no order.
func (s *inFlight) all() iter.Seq[*attempt] {
	return func(yield func(*attempt) bool) {
		for _, a := range s.slots {
			if a != nil && !yield(a) {
				return
			}
		}
	}
}
