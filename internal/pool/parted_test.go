package pool

import (
	"strings"
	"testing"

	"github.com/apifailover/caddy-failover/internal/target"
)

// TestHeirs checks which handler takes the place of one that a reload has removed.
func TestHeirs(t *testing.T) {
	handler := func(reach byte, names string) *Handler {
		h := &Handler{Reach: [32]byte{reach}}
		for _, name := range strings.Fields(names) {
			h.Targets = append(h.Targets, &target.Target{Name: name})
		}
		return h
	}
	dynamic := handler(1, "")
	dynamic.Dynamic = new(DynamicTargets)
	for name, c := range map[string]struct {
		handlers []*Handler
		want     int // -1: none
	}{
		"none":                                    {nil, -1},
		"the only one":                            {[]*Handler{handler(1, "new")}, 0},
		"it reaches endpoints in another way":     {[]*Handler{handler(2, "one two")}, -1},
		"it looks its upstreams up":               {[]*Handler{dynamic}, -1},
		"the one with most of the endpoints":      {[]*Handler{handler(1, "one new"), handler(2, "one two"), handler(1, "two one")}, 2},
		"several, and none has an old endpoint":   {[]*Handler{handler(1, "new"), handler(1, "newer")}, -1},
		"several, and one has no endpoint at all": {[]*Handler{handler(1, ""), handler(1, "two")}, 1},
	} {
		old := handler(1, "one two")
		want := old
		if c.want >= 0 {
			want = c.handlers[c.want]
		}
		if got := old.heirAmong(old.Targets, c.handlers); got != want {
			t.Errorf("%s: got the handler with %v", name, got.Targets)
		}
	}
}
