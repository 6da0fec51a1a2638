package quota

import "math"

// A Booking is how many tokens to book for calls whose use is known only at their end. It learns
// from the calls before. The zero value has seen none. It is not safe for concurrent use.
type Booking struct {
	all            mean // tokens used
	asked, ofAsked mean // what calls might have used by their own account, and what they did use
}

const (
	firstGuess = 1000 // tokens of a call about which nothing is known
	provenBy   = 5    // calls, before what they used counts for more than what they asked for
)

// Tokens returns how many tokens to book for a call that may use asked tokens by its own account, 0
// if it gives none. Those of a call that gives none are the mean of the latest 100 calls. Calls
// rarely use all that they ask for, so asked counts in proportion to what earlier calls used of it.
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

// Learn takes how many tokens a call has used, and what it asked for.
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
