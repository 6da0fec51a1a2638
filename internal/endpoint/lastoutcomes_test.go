package endpoint

import (
	"slices"
	"testing"

	"github.com/apifailover/caddy-failover/internal/outcome"
)

func TestLastOutcomes(t *testing.T) {
	var l lastOutcomes
	if names := l.Names(); len(names) != 0 {
		t.Errorf("empty: %q", names)
	}
	l.Add(outcome.Success)
	l.Add(outcome.FailedTimeout)
	if names := l.Names(); !slices.Equal(names, []string{"success", "timeout"}) {
		t.Errorf("got %q", names)
	}
	for range 19 {
		l.Add(outcome.RateLimited)
	}
	if names := l.Names(); len(names) != 20 || names[0] != "timeout" || names[19] != "rate_limited" {
		t.Errorf("full: %q", names)
	}
}
