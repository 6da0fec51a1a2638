package failover

import (
	"errors"
	"fmt"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/headers"

	"github.com/apifailover/caddy-failover/internal/dialect"
	"github.com/apifailover/caddy-failover/internal/outcome"
)

type poolOption = option[*Policy]

var poolOptions = map[string]poolOption{
	"name":               fixed(func(p *Policy) *string { return &p.Name }),
	"api":                choice(func(p *Policy) *string { return &p.API }, dialect.Names()...),
	"quota":              choice(func(p *Policy) *string { return &p.Quota }, quotaEndpoint, quotaClient),
	"client_credentials": choice(func(p *Policy) *string { return &p.ClientCredentials }, credentialsStrip, credentialsPass),
	"balance":            choice(func(p *Policy) *string { return &p.Balance }, balanceWeighted, balanceLeastLatency, balanceLeastRequests),
	"all_down":           {read: readAllDown},
	"affinity":           {repeatable: true, read: readAffinity},
	"scope":              {read: readScope},
	"overflow": {read: func(_ *reader, d *caddyfile.Dispenser, p *Policy) error {
		word, err := argument(d)
		if err != nil || word == "strict" {
			return err
		}
		if p.Overflow, err = parseNumber(word); err != nil || p.Overflow == 0 || validateOverflow(p.Overflow) != nil {
			err = errors.New("want strict or a factor of 1 or more" + suggest(word, "strict"))
			if percent, bad := parseNumber(strings.TrimSuffix(word, "%")); bad == nil && percent >= 100 && strings.HasSuffix(word, "%") {
				err = fmt.Errorf("want strict or a factor of 1 or more; did you mean %v?", percent/100)
			}
		}
		return wrapWord(d, "overflow", word, err)
	}},
	"timeout": {repeatable: true, read: func(r *reader, d *caddyfile.Dispenser, p *Policy) error {
		return r.timeout(d, &p.Timeout, &p.Timeouts)
	}},
	"idle_timeout": duration(func(p *Policy) *caddy.Duration { return &p.IdleTimeout }),
	"commit":       {read: readCommit},
	"stream_error": {read: func(_ *reader, _ *caddyfile.Dispenser, p *Policy) error {
		p.StreamError = true
		return nil
	}},
	"answer":        {repeatable: true, read: readAnswer},
	"next_on":       {repeatable: true, read: readNextOn},
	"standby_share": ratio(func(p *Policy) *float64 { return &p.StandbyShare }),
	"failure_status": {read: func(_ *reader, d *caddyfile.Dispenser, p *Policy) error {
		p.FailureStatus = d.RemainingArgs()
		if len(p.FailureStatus) == 0 {
			return missing(d)
		}
		if _, err := outcome.ParseStatusSet(p.FailureStatus); err != nil {
			return d.WrapErr(err)
		}
		return nil
	}},
	"breaker": {read: func(r *reader, d *caddyfile.Dispenser, p *Policy) error {
		at := here(d)
		p.Breaker = new(Breaker)
		if err := offOrBlock(r, d, "breaker", &p.Breaker.Off, breakerOptions, p.Breaker); err != nil {
			return err
		}
		return at.wrap(p.Breaker.validate())
	}},
	"health": {read: readHealth},
	"sla":    {read: readSLA},
	"retry": {read: func(r *reader, d *caddyfile.Dispenser, p *Policy) error {
		at := here(d)
		p.Retry = new(Retry)
		if err := offOrBlock(r, d, "retry", &p.Retry.Off, retryOptions, p.Retry); err != nil {
			return err
		}
		return at.wrap(p.Retry.validate())
	}},
}

var endpointOptions = map[string]option[*Endpoint]{
	"name":         fixed(func(e *Endpoint) *string { return &e.Name }),
	"priority":     count(func(e *Endpoint) *int { return &e.Priority }, 1),
	"quota":        choice(func(e *Endpoint) *string { return &e.Quota }, quotaEndpoint, quotaClient),
	"weight":       weight(func(e *Endpoint) **float64 { return &e.Weight }),
	"schedule":     {repeatable: true, read: readSchedule},
	"key":          {repeatable: true, read: readKey},
	"model":        {repeatable: true, read: readModel},
	"limit":        {repeatable: true, read: readLimit},
	"health":       {read: readEndpointHealth},
	"max_requests": count(func(e *Endpoint) *int { return &e.MaxRequests }, 1),
	"header": {repeatable: true, read: func(_ *reader, d *caddyfile.Dispenser, e *Endpoint) error {
		field, err := argument(d)
		if err != nil {
			return err
		}
		args := d.RemainingArgs()
		removes := strings.HasPrefix(field, "-")
		if removes && len(args) != 0 || !removes && len(args) != 1 {
			return d.Errf("header %s: want header [+]<field> <value> or header -<field>", field)
		}
		if e.Headers == nil {
			e.Headers = new(headers.HeaderOps)
		}
		value := ""
		if len(args) > 0 {
			value = args[0]
		}
		if !removes && !strings.HasPrefix(field, "+") && e.Headers.Set.Get(field) != "" {
			return d.Errf("header %s is given twice; write +%[1]s for each of several values", field)
		}
		if err := headers.CaddyfileHeaderOp(e.Headers, field, value, nil); err != nil {
			return d.WrapErr(err)
		}
		return wrap(d, checkOps(e.Headers))
	}},
	"timeout": {repeatable: true, read: func(r *reader, d *caddyfile.Dispenser, e *Endpoint) error {
		return r.timeout(d, &e.Timeout, &e.Timeouts)
	}},
	"set_json": {repeatable: true, read: readSetJSON},
	"url": {read: func(_ *reader, d *caddyfile.Dispenser, e *Endpoint) error {
		word, err := argument(d)
		if err != nil {
			return err
		}
		if !hasPlaceholder(word) {
			if _, err := parseBaseURL(word); err != nil {
				return d.WrapErr(err)
			}
		}
		e.URL = word
		return nil
	}},
}

// withoutURL are the options of an endpoint that already has a URL.
var withoutURL = func() map[string]option[*Endpoint] {
	options := make(map[string]option[*Endpoint])
	for name, o := range endpointOptions {
		if name != "url" {
			options[name] = o
		}
	}
	return options
}()

var breakerOptions = map[string]option[*Breaker]{
	"consecutive_failures": countOrNone(func(b *Breaker) **int { return &b.ConsecutiveFailures }),
	"failure_ratio":        ratioOrNone(func(b *Breaker) **float64 { return &b.FailureRatio }),
	"min_requests":         count(func(b *Breaker) *int { return &b.MinRequests }, 1),
	"window":               duration(func(b *Breaker) *caddy.Duration { return &b.Window }),
	"slow_ratio":           ratio(func(b *Breaker) *float64 { return &b.SlowRatio }),
	"slow_after":           duration(func(b *Breaker) *caddy.Duration { return &b.SlowAfter }),
	"slow_factor": {read: func(_ *reader, d *caddyfile.Dispenser, b *Breaker) error {
		word, err := argument(d)
		if err != nil {
			return err
		}
		factor, err := parseNumber(word)
		if err == nil && !validSlowFactor(factor) {
			err = fmt.Errorf("want 0 or at least 1")
		}
		b.SlowFactor = &factor
		return wrapWord(d, "slow_factor", word, err)
	}},
	"open_for": duration(func(b *Breaker) *caddy.Duration { return &b.OpenFor }),
	"open_max": duration(func(b *Breaker) *caddy.Duration { return &b.OpenMax }),
	"start":    positiveRatio(func(b *Breaker) *float64 { return &b.Start }),
	"step":     duration(func(b *Breaker) *caddy.Duration { return &b.Step }),
}

var retryOptions = map[string]option[*Retry]{
	"attempts": count(func(r *Retry) *int { return &r.Attempts }, 1),
	"methods": {read: func(_ *reader, d *caddyfile.Dispenser, r *Retry) error {
		if r.Methods = d.RemainingArgs(); len(r.Methods) == 0 {
			return missing(d)
		}
		return nil
	}},
	"same_endpoint": count(func(r *Retry) *int { return &r.SameEndpoint }, 0),
	"backoff": {read: func(_ *reader, d *caddyfile.Dispenser, r *Retry) (err error) {
		r.Backoff = new(Backoff)
		if r.Backoff.Base, err = durationArgument(d); err != nil || !d.NextArg() {
			return err
		}
		r.Backoff.Cap, err = parseDuration(d, "backoff cap")
		return err
	}},
	"budget": {read: func(_ *reader, d *caddyfile.Dispenser, r *Retry) error {
		share, err := ratioArgument(d)
		if err != nil {
			return err
		}
		r.Budget = &Budget{Ratio: &share}
		if !d.NextArg() {
			return nil
		}
		floor, err := parseNumber(d.Val())
		if err == nil && floor < 0 {
			err = fmt.Errorf("want 0 or more")
		}
		r.Budget.Floor = &floor
		return wrapWord(d, "budget floor", d.Val(), err)
	}},
	"hedge":            {read: readHedge},
	"wait_retry_after": duration(func(r *Retry) *caddy.Duration { return &r.WaitRetryAfter }),
	"deadline":         duration(func(r *Retry) *caddy.Duration { return &r.Deadline }),
	"buffer":           size(func(r *Retry) *int64 { return &r.Buffer }),
}
