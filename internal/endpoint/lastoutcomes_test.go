package endpoint

import (
	"slices"
	"testing"

	"github.com/apifailover/caddy-failover/internal/outcome"
)

func TestLastOutcomes(t *testing.T) {
	var l lastOutcomes
	if names := l.names(); len(names) != 0 {
		t.Errorf("empty: %q", names)
	}
	l.add(outcome.Success)
	l.add(outcome.FailedTimeout)
	if names := l.names(); !slices.Equal(names, []string{"success", "timeout"}) {
		t.Errorf("got %q", names)
	}
	for range 19 {
		l.add(outcome.RateLimited)
	}
	if names := l.names(); len(names) != 20 || names[0] != "timeout" || names[19] != "rate_limited" {
		t.Errorf("full: %q", names)
	}
}
