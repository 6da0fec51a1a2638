package failover

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/apifailover/caddy-failover/internal/answer"
	"github.com/apifailover/caddy-failover/internal/api"
	"github.com/apifailover/caddy-failover/internal/call"
	"github.com/apifailover/caddy-failover/internal/dialect"
	"github.com/apifailover/caddy-failover/internal/endpoint"
	"github.com/apifailover/caddy-failover/internal/quota"
	"github.com/apifailover/caddy-failover/internal/schedule"
	"github.com/apifailover/caddy-failover/internal/target"
)

// Limit is a rate limit of an endpoint's provider. Requests skip an endpoint whose limit is used
// up until it has room again. That is not a failure.
type Limit struct {
	// The number of requests or tokens per `per`. Required.
	Amount int64 `json:"amount,omitempty"`

	// The unit: `requests` or `tokens`. Every attempt counts, including retries and hedges; health
	// checks do not. An attempt books tokens when it begins, and its response corrects that by the
	// usage that it states. Default: `requests`.
	Of string `json:"of,omitempty"`

	// The period of `amount`. Required.
	Per caddy.Duration `json:"per,omitempty"`

	// How much of `amount` may be used at once after a rest. With an explicit burst, a period may
	// have `amount` plus `burst`. Default: a fiftieth of `amount`, at least 1; then no period has more
	// requests than `amount`.
	Burst int64 `json:"burst,omitempty"`
}

func (l *Limit) validate() error {
	if err := oneOf("limit: of", l.Of, quota.Requests.String(), quota.Tokens.String()); err != nil {
		return err
	}
	switch {
	case l.Amount < 1:
		return errors.New("limit: the amount must be 1 or more")
	case l.Per <= 0:
		return errors.New("limit: the time must be longer than 0")
	case l.Burst < 0:
		return errors.New("limit: burst must be 1 or more")
	}
	return nil
}

// unit returns the unit of the limit.
func (l *Limit) unit() quota.Unit {
	unit, _ := quota.ParseUnit(l.Of) // "" means requests
	return unit
}

// hasTokens reports whether the endpoint has a limit of tokens.
func (e *Endpoint) hasTokens() bool {
	return slices.ContainsFunc(e.Limits, func(l *Limit) bool { return l.unit() == quota.Tokens })
}

// validateTokens checks that the API has tokens if the endpoint has a limit of them.
func (e *Endpoint) validateTokens(api *dialect.Dialect) error {
	if api != nil && api.Usage.IsZero() && e.hasTokens() {
		return fmt.Errorf("limit: requests of api %s use no tokens", api.Name)
	}
	return nil
}

// tokenRules returns where requests and responses state tokens: as the API does or, without an
// API, as any API does. It returns nil if no endpoint has a limit of tokens.
func (p *Policy) tokenRules() *call.TokenRules {
	if !slices.ContainsFunc(p.Endpoints, (*Endpoint).hasTokens) {
		return nil
	}
	usage := dialect.AnyUsage()
	if api := p.dialect(); api != nil {
		usage = api.Usage
	}
	return &call.TokenRules{Usage: answer.NewUsageRule(usage.Total, usage.Parts), Most: usage.Most}
}

// bounds converts an endpoint's max_requests and limits, which must be valid. It returns nil if
// there are none.
func (e *Endpoint) bounds() *endpoint.Bounds {
	if e.MaxRequests == 0 && len(e.Limits) == 0 {
		return nil
	}
	b := &endpoint.Bounds{AtOnce: e.MaxRequests}
	for _, l := range e.Limits {
		b.Rates = append(b.Rates, quota.Limit{Of: l.unit(), Amount: l.Amount, Per: time.Duration(l.Per), Burst: l.Burst}.Rate())
	}
	return b
}

// readLimit reads `limit <n> requests|tokens per <duration> [burst <n>]`.
func readLimit(_ *reader, d *caddyfile.Dispenser, e *Endpoint) error {
	l := new(Limit)
	number := func(what string) (int64, error) {
		word, err := argument(d)
		if err != nil {
			return 0, err
		}
		n, err := strconv.ParseInt(word, 10, 64)
		if err != nil || n < 1 {
			advice := adviseVariable(word)
			if advice == "" && strings.Trim(word, "0123456789-") != "" {
				advice = "; write limit <n> requests|tokens per <duration> [burst <n>]"
			}
			return 0, d.Errf("invalid %s %q: want a whole number of 1 or more%s", what, word, advice)
		}
		return n, nil
	}
	word := func(want ...string) (string, error) {
		got, err := argument(d)
		if err == nil && !slices.Contains(want, got) {
			err = d.Errf("limit: want limit <n> requests|tokens per <duration> [burst <n>]: %s, not %q%s", strings.Join(want, " or "), got, suggest(got, want...))
		}
		return got, err
	}
	var err error
	if l.Amount, err = number("limit"); err != nil {
		return err
	}
	if l.Of, err = word(quota.Requests.String(), quota.Tokens.String()); err != nil {
		return err
	}
	if l.unit() == quota.Requests {
		l.Of = "" // the default
	}
	if _, err := word("per"); err != nil {
		return err
	}
	if l.Per, err = durationArgument(d); err != nil {
		return err
	}
	if d.NextArg() {
		if d.Val() != "burst" {
			return d.Errf("limit: want burst <n>, not %q", d.Val())
		}
		if l.Burst, err = number("burst"); err != nil {
			return err
		}
	}
	e.Limits = append(e.Limits, l)
	if err := l.validate(); err != nil {
		return d.WrapErr(err)
	}
	return wrap(d, e.checkTwice())
}

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

// window returns the times at which the schedule is in force.
func (s *Schedule) window() (*schedule.Window, error) {
	w, err := schedule.Parse(s.Cron, s.Zone, time.Duration(s.Duration))
	if err != nil {
		known, advice := []string{"@hourly", "@daily", "@weekly", "@monthly", "@yearly"}, ""
		if strings.HasPrefix(s.Cron, "@") && !slices.Contains(known, s.Cron) {
			advice = suggest(s.Cron, known...)
		}
		return nil, fmt.Errorf("schedule: %w%s", err, advice)
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
	"zone":     fixed(func(s *Schedule) *string { return &s.Zone }),
}

// readSchedule reads `schedule <cron> <duration> { ... }`.
func readSchedule(r *reader, d *caddyfile.Dispenser, e *Endpoint) error {
	at := here(d)
	s := new(Schedule)
	var err error
	if s.Cron, err = argument(d); err != nil {
		return err
	}
	if args := d.CountRemainingArgs(); args > 1 && !strings.ContainsAny(s.Cron, " @") {
		return d.Errf("schedule: write the five fields of the expression in quotes, as in schedule \"0 3 * * SUN\" 2h")
	}
	if s.Duration, err = durationOf(d, "schedule"); err != nil {
		return err
	}
	if err := readBlock(r, d, "schedule", scheduleOptions, s); err != nil {
		return err
	}
	e.Schedules = append(e.Schedules, s)
	return at.wrap(s.validate())
}
