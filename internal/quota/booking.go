package quota

import "math"

// A Booking estimates the tokens of calls whose use is known only at their end. It learns from
// earlier calls. The zero value has seen none. It is not safe for concurrent use.
type Booking struct {
	all            mean // tokens that calls used
	asked, ofAsked mean // of calls that stated a maximum: the maximum, and the tokens they used
}

const (
	firstGuess = 1000 // tokens of a call while nothing is known
	provenBy   = 5    // calls that state a maximum, before their use is scaled
)

// Tokens returns how many tokens to book for a call. asked is the maximum that the call states; 0:
// none. A call without one books the mean of the latest 100 calls. A call rarely uses its maximum,
// so a call with one books the part of it that earlier calls used on average.
func (b *Booking) Tokens(asked int64) int64 {
	switch {
	case asked <= 0 && b.all.values > 0:
		return b.all.value()
	case asked <= 0:
		return firstGuess
	case b.asked.values < provenBy:
		return asked
	}
	part := float64(b.ofAsked.value()) / float64(b.asked.value())
	return int64(max(1, math.Ceil(min(part*float64(asked), math.MaxInt64/2))))
}

// Learn takes the maximum that a call stated, 0 for none, and the tokens that it used.
func (b *Booking) Learn(asked, used int64) {
	b.all.add(used)
	if asked > 0 {
		b.asked.add(asked)
		b.ofAsked.add(used)
	}
}

// mean is the mean of about the latest 100 values. The zero value knows none.
type mean struct {
	values int // at most meanOf
	mean   float64
}

const meanOf = 100

func (m *mean) add(value int64) {
	m.values = min(m.values+1, meanOf)
	m.mean += (float64(value) - m.mean) / float64(m.values)
}

// value returns the mean, rounded up, at least 1.
func (m *mean) value() int64 { return max(1, int64(math.Ceil(m.mean))) }
