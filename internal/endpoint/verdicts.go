package endpoint

import "time"

// Verdicts say whose fault the latest failures in doubt were found to be, by the next attempt of
// their calls. They decide about failures that no other attempt follows, because the budget of retries
// is used up. The zero value knows nothing.
type verdicts struct {
	requests float64   // the part that found the request at fault; later ones weigh more
	at       time.Time // the latest
}

const (
	// verdictWeight is the weight of a new verdict: five in a row reach verdictsAgree.
	verdictWeight = 1.0 / 4
	verdictsAgree = 3.0 / 4
	// verdictsFor is how long they count. While only one endpoint is available, there are no new ones.
	verdictsFor = 30 * time.Second
)

// add adds a verdict: the request is at fault, or the endpoint.
func (v *verdicts) add(request bool, now time.Time) {
	if now.Sub(v.at) > verdictsFor {
		v.requests = 0
	}
	found := 0.0
	if request {
		found = 1
	}
	v.requests += (found - v.requests) * verdictWeight
	v.at = now
}

// requestsFail reports whether nearly all verdicts within verdictsFor found requests at fault.
func (v *verdicts) requestsFail(now time.Time) bool {
	return now.Sub(v.at) <= verdictsFor && v.requests >= verdictsAgree
}

// FoundAtFault takes what the next attempt has shown about an attempt's failure: the request is at
// fault, or the endpoint.
func (s *State) FoundAtFault(t *Ticket, request bool, now time.Time) {
	s.Mu.Lock()
	defer s.Mu.Unlock()
	t.speaksOf(s, t.Outcome).verdicts.add(request, now)
}

// RequestsFail reports whether the latest failures of the scope's calls whose cause is known were the
// fault of requests.
func (v Scoped) RequestsFail(now time.Time) bool {
	v.Mu.Lock()
	defer v.Mu.Unlock()
	c := v.about()
	if c == nil {
		c = &v.own
	}
	return c.verdicts.requestsFail(now)
}
