package failover

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"go.uber.org/zap"

	"github.com/apifailover/caddy-failover/internal/call"
)

// Wait configures how requests wait that find no endpoint. They leave the queue in the order in
// which they came: one at a time while endpoints are on trial, then as fast as the endpoints
// respond. A retryable request whose attempt fails waits as well.
type Wait struct {
	// The longest wait, from the start of the request. Required.
	For caddy.Duration `json:"for,omitempty"`

	// The largest number of requests that wait in the pool. Others are refused at once. Default: 1000.
	Most int `json:"most,omitempty"`
}

const (
	defaultMostWaiting = 1000
	// defaultTryInterval is what the proxy waits between tries unless told otherwise.
	defaultTryInterval = 250 * time.Millisecond
)

func (p *Policy) validateWait() error {
	switch w := p.Wait; {
	case w == nil && p.AllDown == allDownWait:
		return errors.New("all_down wait needs a duration: all_down wait <duration> [<most>]")
	case w == nil:
		return nil
	case p.AllDown != allDownWait:
		return errors.New(`wait needs "all_down": "wait"`)
	case w.For <= 0:
		return errors.New("all_down wait: the duration must be longer than 0")
	case w.Most < 0:
		return errors.New("all_down wait: the number of requests must be 1 or more")
	}
	return nil
}

// readAllDown reads `all_down fail_fast|try_anyway` and `all_down wait <duration> [<most>]`.
func readAllDown(_ *reader, d *caddyfile.Dispenser, p *Policy) error {
	word, err := argument(d)
	if err != nil {
		return err
	}
	p.AllDown = word
	if err := wrap(d, oneOf("all_down", word, allDownFailFast, allDownTryAnyway, allDownWait)); err != nil || word != allDownWait {
		return err
	}
	p.Wait = new(Wait)
	if !d.NextArg() {
		return wrap(d, p.Wait.needed())
	}
	if p.Wait.For, err = parseDuration(d, "all_down wait"); err != nil {
		return err
	}
	if d.NextArg() {
		if p.Wait.Most, err = strconv.Atoi(d.Val()); err != nil || p.Wait.Most < 1 {
			return d.Errf("invalid all_down wait %q: want how many requests may wait, 1 or more", d.Val())
		}
	}
	return wrap(d, p.validateWait())
}

// needed returns the error of a wait without a duration.
func (*Wait) needed() error {
	return (&Policy{AllDown: allDownWait}).validateWait()
}

// takeOver converts the proxy's lb_retries, lb_try_duration, lb_try_interval and lb_retry_match
// to rules of requests. Options of the policy override them. Afterwards the policy alone ends the
// proxy's loop.
func (p *Policy) takeOver(lb *reverseproxy.LoadBalancing, ctx caddy.Context) error {
	rules, retry := &p.handler.Wait, &p.handler.Retry
	interval := cmp.Or(time.Duration(lb.TryInterval), defaultTryInterval)
	off := p.Retry != nil && p.Retry.Off
	if p.Wait != nil {
		*rules = call.WaitRules{For: time.Duration(p.Wait.For), Most: cmp.Or(p.Wait.Most, defaultMostWaiting), Interval: interval}
	}
	if lb.TryDuration > 0 {
		tried := time.Duration(lb.TryDuration)
		switch {
		case p.AllDown != "":
			if p.Wait == nil || p.Wait.For != lb.TryDuration {
				p.outdoes("all_down "+p.AllDown, "lb_try_duration")
			}
		case off:
			p.outdoes("retry off", "lb_try_duration")
			fallthrough
		default:
			*rules = call.WaitRules{For: tried, Most: defaultMostWaiting, Interval: interval}
		}
		switch {
		case retry.Deadline == 0:
			retry.NoneAfter = tried
		case retry.Deadline < tried:
			p.outdoes("retry deadline", "lb_try_duration")
		}
		if lb.Retries == 0 && (p.Retry == nil || p.Retry.Attempts == 0 && !off) {
			retry.Attempts = max(retry.Attempts, len(p.handler.Targets))
		}
	}
	if lb.Retries > 0 {
		switch {
		case off:
			p.outdoes("retry off", "lb_retries")
		case p.Retry != nil && p.Retry.Attempts > 0:
			if p.Retry.Attempts != lb.Retries+1 {
				p.outdoes("retry attempts", "lb_retries")
			}
		default:
			retry.Attempts = lb.Retries + 1
			if p.Wait == nil {
				rules.Tries, rules.Most = lb.Retries, defaultMostWaiting
				if rules.For == 0 {
					rules.Interval = time.Duration(lb.TryInterval)
				}
			}
		}
	}
	retry.Attempts = min(retry.Attempts, call.MaxAttempts)
	if err := p.takeOverMatchers(lb, ctx); err != nil {
		return err
	}
	lb.Retries, lb.TryDuration, lb.TryInterval = loops, 0, 0
	return nil
}

// loops is the largest number of times that the proxy asks for an upstream for one request.
// Requests end long before, because the policy's errors tell the proxy whether to ask again.
const loops = 1 << 20

// outdoes warns that an option of the proxy has no effect.
func (p *Policy) outdoes(own, proxys string) {
	p.handler.Logger.Warn("an option of the proxy has no effect: an option of the policy overrides it",
		zap.String("pool", p.Name), zap.String("in_force", own), zap.String("ignored", proxys))
}

// retryMatch loads the proxy's own matchers for the policy.
type retryMatch struct {
	Raw caddyhttp.RawMatcherSets `json:"retry_match,omitempty" caddy:"namespace=http.matchers"`
}

// takeOverMatchers makes the policy use lb_retry_match for transport errors, unless `retry
// methods` is set. The proxy still uses it for responses.
func (p *Policy) takeOverMatchers(lb *reverseproxy.LoadBalancing, ctx caddy.Context) error {
	own := lb.RetryMatchRaw
	p.handler.Rematches = len(own) > 0
	lb.RetryMatchRaw = call.WithVerdict(own)
	switch {
	case len(own) == 0:
		return nil
	case p.Retry != nil && len(p.Retry.Methods) > 0:
		p.outdoes("retry methods", "lb_retry_match")
		return nil
	}
	loaded, err := ctx.LoadModule(&retryMatch{own}, "Raw")
	if err != nil {
		return fmt.Errorf("loading lb_retry_match: %w", err)
	}
	var sets caddyhttp.MatcherSets
	if err := sets.FromInterface(loaded); err != nil {
		return fmt.Errorf("loading lb_retry_match: %w", err)
	}
	p.handler.RetryMatch = func(r *http.Request) bool {
		matches, err := call.MatchesError(sets, r)
		if err != nil {
			p.handler.Logger.Error("matching a request for lb_retry_match", zap.String("pool", p.Name), zap.Error(err))
		}
		return matches && err == nil
	}
	return nil
}

func init() { caddy.RegisterModule(call.Verdict{}) }
