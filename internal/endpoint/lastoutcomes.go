package endpoint

import "github.com/apifailover/caddy-failover/internal/outcome"

// lastOutcomes keeps the outcomes of the latest attempts. The zero value is empty.
type lastOutcomes struct {
	ring [20]outcome.Outcome
	n    uint // how many were ever added
}

// add adds the outcome of an attempt.
func (l *lastOutcomes) add(o outcome.Outcome) {
	l.ring[l.n%uint(len(l.ring))] = o
	l.n++
}

// names returns the outcomes, oldest first.
func (l *lastOutcomes) names() []string {
	size := uint(len(l.ring))
	n := min(l.n, size)
	names := make([]string, 0, n)
	for i := l.n - n; i < l.n; i++ {
		names = append(names, l.ring[i%size].String())
	}
	return names
}
