package failover

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/apifailover/caddy-failover/internal/sla"
)

// SLA sets the objectives of a pool, as its clients see it: a request that a failover saved is a
// success. A pool with this block keeps its history in Caddy's storage, even if the block is
// empty.
type SLA struct {
	// The part of the requests that must succeed, 0 to 1. Default: no objective.
	Availability float64 `json:"availability,omitempty"`

	// The part of the successes whose first byte must arrive within `latency_target`, 0 to 1.
	// Default: 0.95.
	LatencyQuantile float64 `json:"latency_quantile,omitempty"`

	// The longest time to the first byte of these successes. Default: no objective.
	LatencyTarget caddy.Duration `json:"latency_target,omitempty"`

	// The period up to now that is compared with the objectives, 1h to 40d. Default: 30d.
	Window caddy.Duration `json:"window,omitempty"`
}

func (s *SLA) validate() error {
	if s == nil {
		return nil
	}
	if s.LatencyQuantile != 0 && s.LatencyTarget == 0 {
		return errors.New("sla: latency_quantile needs a latency_target")
	}
	if err := s.objective().Validate(); err != nil {
		return fmt.Errorf("sla: %w", err)
	}
	return nil
}

// objective returns the zero value, which has no objectives, for a nil SLA.
func (s *SLA) objective() sla.Objective {
	if s == nil {
		return sla.Objective{}
	}
	return sla.Objective{
		Availability:    s.Availability,
		LatencyQuantile: cmp.Or(s.LatencyQuantile, sla.DefaultQuantile),
		LatencyTarget:   time.Duration(s.LatencyTarget),
		Window:          cmp.Or(time.Duration(s.Window), sla.DefaultWindow),
	}
}

var slaOptions = map[string]option[*SLA]{
	"availability": ratio(func(s *SLA) *float64 { return &s.Availability }),
	"latency": {read: func(_ *reader, d *caddyfile.Dispenser, s *SLA) error {
		word, err := argument(d)
		if err != nil {
			return err
		}
		digits, ok := strings.CutPrefix(word, "p")
		percent, err := strconv.ParseFloat(digits, 64)
		if !ok || err != nil || !(percent > 0 && percent < 100) {
			return d.Errf("invalid latency quantile %q: want for example p95 or p99.9", word)
		}
		s.LatencyQuantile = percentage(percent)
		s.LatencyTarget, err = durationArgument(d)
		return err
	}},
	"window": duration(func(s *SLA) *caddy.Duration { return &s.Window }),
}

// readSLA reads `sla [{ ... }]`.
func readSLA(r *reader, d *caddyfile.Dispenser, p *Policy) error {
	at := here(d)
	p.SLA = new(SLA)
	if err := readBlock(r, d, "sla", slaOptions, p.SLA); err != nil {
		return err
	}
	return at.wrap(p.SLA.validate())
}
