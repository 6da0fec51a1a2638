package endpoint

import "iter"

// inFlight is a set of attempts. One that comes or goes touches no other: these are
// being worked on by other cores. The zero value is empty.
type inFlight struct {
	slots []Watched // nil: free
	free  []int32   // slots
}

// add puts an attempt in, which is in no set.
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

// remove takes an attempt out, and returns whether it was in.
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

// fewSlots is how many slots a set keeps that is empty.
const fewSlots = 256

// empty tells whether no attempt is in the set.
func (s *inFlight) empty() bool { return len(s.free) == len(s.slots) }

// all are the attempts, in no order.
func (s *inFlight) all() iter.Seq[Watched] {
	return func(yield func(Watched) bool) {
		for _, f := range s.slots {
			if f != nil && !yield(f) {
				return
			}
		}
	}
}
