package incident

import "time"

// pastKept is how many totals past keeps.
const pastKept = 64

// past are the totals of a pool at times since its latest incident, so that an incident can count what
// failed before it was noticed. The older they are, the fewer are kept. The zero value is that of a new
// pool.
type past struct {
	marks  []mark    // oldest first
	starts time.Time // the end of the latest incident; zero: there was none
	before Totals    // totals before the first mark
}

// A mark is a pool's totals at a time.
type mark struct {
	at time.Time
	Totals
}

// add notes totals that have changed by now.
func (p *past) add(now time.Time, totals Totals) {
	if len(p.marks) == pastKept { // keep every second mark of the older half
		kept := p.marks[:0]
		for i, m := range p.marks {
			if i%2 == 0 || i >= pastKept/2 {
				kept = append(kept, m)
			}
		}
		p.marks = kept
	}
	p.marks = append(p.marks, mark{now, totals})
}

// from returns when an incident starts whose failures began at a time, which is not before the end of the
// latest incident, and the totals before it.
func (p *past) from(since time.Time) (start time.Time, base Totals) {
	if since.Before(p.starts) {
		return p.starts, p.before
	}
	base = p.before
	for _, m := range p.marks {
		if m.at.Before(since) {
			base = m.Totals
		}
	}
	return since, base
}
