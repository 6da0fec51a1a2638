package failover

import (
	"errors"
	"fmt"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/apifailover/caddy-failover/internal/api"
	"github.com/apifailover/caddy-failover/internal/schedule"
	"github.com/apifailover/caddy-failover/internal/target"
)

// Schedule drains an endpoint, or changes its weight or priority, at planned times: for
// maintenance, or while it is cheaper. An operator's actions override it.
type Schedule struct {
	// The beginning: a cron expression of five fields (minute, hour, day of the month, month,
	// day of the week), or @hourly, @daily, @weekly, @monthly, @yearly. Required.
	Cron string `json:"cron,omitempty"`

	// How long the schedule is in force each time. Required.
	Duration caddy.Duration `json:"duration,omitempty"`

	// The time zone: a name of the IANA database (Europe/Berlin) or UTC. Default: the machine's.
	Zone string `json:"zone,omitempty"`

	// Whether the endpoint gets no new requests. Those in flight finish. Default: false.
	Drain bool `json:"drain,omitempty"`

	// The weight while the schedule is in force. Default: as configured.
	Weight *float64 `json:"weight,omitempty"`

	// The priority while the schedule is in force. Default: as configured.
	Priority *int `json:"priority,omitempty"`
}

func (s *Schedule) window() (*schedule.Window, error) {
	w, err := schedule.Parse(s.Cron, s.Zone, time.Duration(s.Duration))
	if err != nil {
		return nil, fmt.Errorf("schedule: %w", err)
	}
	return w, nil
}

func (s *Schedule) validate() error {
	switch {
	case s.Cron == "":
		return errors.New("schedule: cron is missing")
	case !s.Drain && s.Weight == nil && s.Priority == nil:
		return errors.New("schedule: want drain, a weight or a priority")
	case s.Drain && (s.Weight != nil || s.Priority != nil):
		return errors.New("schedule: drain cannot be combined with a weight or a priority")
	case s.Weight != nil && api.WeightRange(*s.Weight) != "":
		return fmt.Errorf("schedule: weight must be %s", api.WeightRange(*s.Weight))
	case s.Priority != nil && *s.Priority < 1:
		return errors.New("schedule: priority must be 1 or more")
	}
	_, err := s.window()
	return err
}

// schedules converts a list of Schedule, which must be valid.
func schedules(list []*Schedule) []target.Schedule {
	var ready []target.Schedule
	for _, s := range list {
		w, _ := s.window()
		ready = append(ready, target.Schedule{Window: w, Drain: s.Drain, Weight: s.Weight, Priority: s.Priority})
	}
	return ready
}

var scheduleOptions = map[string]option[*Schedule]{
	"drain": {read: func(_ *reader, _ *caddyfile.Dispenser, s *Schedule) error {
		s.Drain = true
		return nil
	}},
	"weight":   weight(func(s *Schedule) **float64 { return &s.Weight }),
	"priority": countOrNone(func(s *Schedule) **int { return &s.Priority }),
	"zone":     text(func(s *Schedule) *string { return &s.Zone }),
}

// readSchedule reads `schedule <cron> <duration> { ... }`.
func readSchedule(r *reader, d *caddyfile.Dispenser, e *Endpoint) error {
	at := here(d)
	s := new(Schedule)
	var err error
	if s.Cron, err = argument(d); err != nil {
		return err
	}
	if s.Duration, err = durationArgument(d); err != nil {
		return err
	}
	if err := readBlock(r, d, "schedule", scheduleOptions, s); err != nil {
		return err
	}
	e.Schedules = append(e.Schedules, s)
	return at.wrap(s.validate())
}
