package failover

import (
	"errors"
	"strconv"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/apifailover/caddy-failover/internal/endpoint"
	"github.com/apifailover/caddy-failover/internal/quota"
)

// limitRequests is what a limit counts.
const limitRequests = "requests"

// Limit is a rate limit of an endpoint's provider. Requests skip an endpoint whose limit is used
// up until it has room again. That is not a failure.
type Limit struct {
	// The number of requests per `per`. Required.
	Amount int64 `json:"amount,omitempty"`

	// The unit: `requests`. Every attempt counts, including retries and hedges; health checks do
	// not. Default: `requests`.
	Of string `json:"of,omitempty"`

	// The period of `amount`. Required.
	Per caddy.Duration `json:"per,omitempty"`

	// The number of requests that may go out at once after a rest. With an explicit burst, a
	// period may have `amount` plus `burst` requests. Default: a fiftieth of `amount`, at least 1;
	// then no period has more than `amount`.
	Burst int64 `json:"burst,omitempty"`
}

func (l *Limit) validate() error {
	if err := oneOf("limit: of", l.Of, limitRequests); err != nil {
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

// bounds are an endpoint's max_requests and limits, ready for use; nil if there are none. They
// have been validated.
func (e *Endpoint) bounds() *endpoint.Bounds {
	if e.MaxRequests == 0 && len(e.Limits) == 0 {
		return nil
	}
	b := &endpoint.Bounds{AtOnce: e.MaxRequests}
	for _, l := range e.Limits {
		b.Rates = append(b.Rates, quota.Limit{Amount: l.Amount, Per: time.Duration(l.Per), Burst: l.Burst}.Rate())
	}
	return b
}

// readLimit reads `limit <n> requests per <duration> [burst <n>]`.
func readLimit(_ *reader, d *caddyfile.Dispenser, e *Endpoint) error {
	l := new(Limit)
	number := func(what string) (int64, error) {
		word, err := argument(d)
		if err != nil {
			return 0, err
		}
		n, err := strconv.ParseInt(word, 10, 64)
		if err != nil || n < 1 {
			return 0, d.Errf("invalid %s %q: want a whole number of 1 or more", what, word)
		}
		return n, nil
	}
	word := func(want string) error {
		got, err := argument(d)
		if err == nil && got != want {
			err = d.Errf("limit: want limit <n> requests per <duration> [burst <n>]: %s, not %q", want, got)
		}
		return err
	}
	var err error
	if l.Amount, err = number("limit"); err != nil {
		return err
	}
	if err := word(limitRequests); err != nil {
		return err
	}
	if err := word("per"); err != nil {
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
	return wrap(d, l.validate())
}
