package pool

import (
	"cmp"
	"slices"

	"github.com/apifailover/caddy-failover/internal/api"
)

// RecentFailures returns the latest failures of the endpoints with a name, newest first.
// known is false if there is no such endpoint.
func (p *Pool) RecentFailures(endpoint string) (list []api.FailureStatus, known bool) {
	p.Mu.Lock()
	states := p.namedLocked(endpoint)
	p.Mu.Unlock()
	for _, s := range states {
		list = append(list, s.RecentFailures()...)
	}
	slices.SortStableFunc(list, func(a, b api.FailureStatus) int { return cmp.Compare(b.At.UnixNano(), a.At.UnixNano()) })
	return list, len(states) > 0
}
