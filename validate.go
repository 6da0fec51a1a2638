package failover

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"reflect"
	"slices"
	"strings"

	"github.com/apifailover/caddy-failover/internal/api"
	"github.com/apifailover/caddy-failover/internal/outcome"
	"github.com/apifailover/caddy-failover/internal/pool"
)

// Validate implements caddy.Validator. Provision calls it before it acquires anything.
func (p *Policy) Validate() error {
	if err := eachValue("", reflect.ValueOf(p), checkDuration); err != nil {
		return err
	}
	if err := p.validateAPI(); err != nil {
		return err
	}
	if err := oneOf("quota", p.Quota, quotaEndpoint, quotaClient); err != nil {
		return err
	}
	if err := oneOf("client_credentials", p.ClientCredentials, credentialsStrip, credentialsPass); err != nil {
		return err
	}
	if err := oneOf("balance", p.Balance, balanceWeighted, balanceLeastLatency, balanceLeastRequests); err != nil {
		return err
	}
	for _, a := range p.Affinity {
		if err := a.validate(); err != nil {
			return err
		}
	}
	if err := p.Scope.validate(); err != nil {
		return err
	}
	if err := oneOf("all_down", p.AllDown, allDownFailFast, allDownTryAnyway, allDownWait); err != nil {
		return err
	}
	if err := p.validateWait(); err != nil {
		return err
	}
	if err := validateOverflow(p.Overflow); err != nil {
		return err
	}
	if err := validateTimeouts(p.Timeouts); err != nil {
		return err
	}
	if p.Timeout < 0 {
		return fmt.Errorf("timeout must not be negative")
	}
	if p.IdleTimeout < 0 {
		return fmt.Errorf("idle_timeout must not be negative")
	}
	if err := p.Commit.validate(); err != nil {
		return err
	}
	var err error
	if _, err = outcome.ParseStatusSet(p.FailureStatus); err != nil {
		return fmt.Errorf("failure_status: %w", err)
	}
	if _, err = p.answerRules(); err != nil {
		return err
	}
	names := make(map[string]bool)
	for _, e := range p.Endpoints {
		if err := e.validate(); err != nil {
			return e.wrap(err)
		}
		if names[e.Name] {
			return e.wrap(errors.New("the name is used twice"))
		}
		names[e.Name] = true
		if p.Health != nil && p.Health.ExpectBody != "" && e.Health != nil && e.Health.Method == http.MethodHead {
			return e.wrap(errBodyOfHEAD)
		}
	}
	if err := p.Breaker.validate(); err != nil {
		return err
	}
	if outside(p.StandbyShare) {
		return errors.New("standby_share must be between 0 and 1")
	}
	if err := p.Health.validate(); err != nil {
		return err
	}
	if err := p.SLA.validate(); err != nil {
		return err
	}
	return p.Retry.validate()
}

func (e *Endpoint) validate() error {
	if e.URL != "" && !hasPlaceholder(e.URL) {
		if _, err := parseBaseURL(e.URL); err != nil {
			return err
		}
	}
	switch {
	case e.Upstream == "":
		return errors.New("an endpoint needs an upstream or a url")
	case e.Priority < 0:
		return errors.New("priority must be 1 or more")
	case e.Weight != nil && api.WeightRange(*e.Weight) != "":
		return fmt.Errorf("weight must be %s", api.WeightRange(*e.Weight))
	case e.MaxRequests < 0:
		return errors.New("max_requests must not be negative")
	case e.Timeout < 0:
		return errors.New("timeout must not be negative")
	}
	if err := e.Health.validate(); err != nil {
		return err
	}
	if err := oneOf("quota", e.Quota, quotaEndpoint, quotaClient); err != nil {
		return err
	}
	if err := validateTimeouts(e.Timeouts); err != nil {
		return err
	}
	for _, l := range e.Limits {
		if err := l.validate(); err != nil {
			return fmt.Errorf("%s: %w", e.at(), err)
		}
	}
	for _, s := range e.Schedules {
		if err := s.validate(); err != nil {
			return fmt.Errorf("%s: %w", e.at(), err)
		}
	}
	for _, s := range e.SetJSON {
		if err := s.validate(); err != nil {
			return err
		}
	}
	if err := checkOps(e.Headers); err != nil {
		return err
	}
	return e.checkTwice()
}

func validateTimeouts(timeouts []*Timeout) error {
	for _, t := range timeouts {
		if t.Timeout <= 0 {
			return fmt.Errorf("a timeout must be longer than 0")
		}
	}
	return nil
}

// validateOverflow accepts 0, which is strict, and factors from 1.
func validateOverflow(factor float64) error {
	if factor != 0 && !(factor >= 1 && factor <= math.MaxFloat32) {
		return fmt.Errorf("overflow must be strict or a factor of 1 or more, not %v", factor)
	}
	return nil
}

// oneOf checks that a word is one of several. It accepts the empty word, which means the default.
func oneOf(option, word string, words ...string) error {
	if word == "" {
		return nil
	}
	if slices.Contains(words, word) {
		return nil
	}
	last := len(words) - 1
	if last == 0 {
		return fmt.Errorf("%s must be %s, not %q", option, words[0], word)
	}
	return fmt.Errorf("%s must be %s or %s, not %q%s", option, strings.Join(words[:last], ", "), words[last], word, suggest(word, words...))
}

// AgreesWith implements pool.Terms.
func (p *Policy) AgreesWith(terms pool.Terms) error {
	other := terms.(*Policy)
	if p.Breaker != nil && other.Breaker != nil && !reflect.DeepEqual(p.Breaker, other.Breaker) {
		return fmt.Errorf("pool %q: the handlers of %s and %s give it different breakers; "+
			"make them equal, set only one, or give the pools different names", p.Name, p.where(), other.where())
	}
	if p.Health != nil && other.Health != nil && !reflect.DeepEqual(p.Health, other.Health) {
		return fmt.Errorf("pool %q: the handlers of %s and %s give it different health checks; "+
			"make them equal, set only one, or give the pools different names", p.Name, p.where(), other.where())
	}
	if p.SLA != nil && other.SLA != nil && p.SLA.objective() != other.SLA.objective() {
		return fmt.Errorf("pool %q: the handlers of %s and %s give it different SLAs; "+
			"make them equal, set only one, or give the pools different names", p.Name, p.where(), other.where())
	}
	if mine, theirs := p.scope(), other.scope(); mine != nil && theirs != nil && *mine != *theirs {
		return fmt.Errorf("pool %q: the handlers of %s and %s give it different scopes; "+
			"make them equal, set only one, or give the pools different names", p.Name, p.where(), other.where())
	}
	for _, mine := range p.Endpoints {
		for _, theirs := range other.Endpoints {
			if what := mine.disagreement(theirs); what != "" {
				return fmt.Errorf("pool %q: the handlers of %s and %s give endpoint %q different %s",
					p.Name, p.where(), other.where(), mine.Name, what)
			}
		}
	}
	return nil
}

// disagreement names the options in which two configurations of the same endpoint differ. It returns
// "" if they agree, or if they are of two endpoints.
func (e *Endpoint) disagreement(other *Endpoint) string {
	switch {
	case e.Name != other.Name:
		return ""
	case e.Upstream != other.Upstream:
		return "addresses"
	case e.Health != nil && other.Health != nil && *e.Health != *other.Health:
		return "health checks"
	case e.Limits != nil && other.Limits != nil && !reflect.DeepEqual(e.Limits, other.Limits):
		return "limits"
	case e.Schedules != nil && other.Schedules != nil && !reflect.DeepEqual(e.Schedules, other.Schedules):
		return "schedules"
	case e.URL != "" && other.URL != "" && e.URL != other.URL:
		return "URLs"
	}
	return ""
}

// where returns the handler's place for an error message.
func (p *Policy) where() string {
	if len(p.Endpoints) > 0 {
		return p.Endpoints[0].at()
	}
	if len(p.handler.Targets) > 0 {
		return p.handler.Targets[0].Name
	}
	return "dynamic upstreams"
}

// A placedError is an error of provisioning with the place of its cause in a Caddyfile.
type placedError struct {
	at  string // file:line
	err error
}

func (e *placedError) Error() string { return e.at + ": " + e.err.Error() }

func (e *placedError) Unwrap() error { return e.err }

// placed adds a place to an error, unless the error has one or at is empty.
func placed(at string, err error) error {
	if _, ok := errors.AsType[*placedError](err); ok || at == "" || err == nil {
		return err
	}
	return &placedError{at, err}
}

// wrap adds the place and name of the endpoint to an error. It returns nil for nil.
func (e *Endpoint) wrap(err error) error {
	if err == nil {
		return nil
	}
	return placed(e.DefinedAt, fmt.Errorf("endpoint %q: %w", e.called(), err))
}
