package pool

import (
	"testing"
	"time"

	"github.com/apifailover/caddy-failover/internal/endpoint"
)

// TestRoutesAreForgotten drops the counts of failovers to endpoints that are gone.
func TestRoutesAreForgotten(t *testing.T) {
	p := newTestPool("routes")
	defer p.Outbox.Close()
	one := p.JoinLocked(endpoint.Key{Name: "one", Address: "one:80"})
	two := p.JoinLocked(endpoint.Key{Name: "two", Address: "two:80"})
	one.CountFailover("two", "reset")
	one.CountFailover("three", "reset")
	p.Fold(time.Now())
	p.JoinLocked(endpoint.Key{Name: "three", Address: "three:80"})
	p.dropLocked(two)
	p.Fold(time.Now())
	if _, ok := one.Total.Failovers[endpoint.Route{To: "three", Reason: "reset"}]; len(one.Total.Failovers) != 1 || !ok {
		t.Errorf("left: %v", one.Total.Failovers)
	}
}
