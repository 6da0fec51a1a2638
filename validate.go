package failover

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"

	"github.com/apifailover/caddy-failover/internal/api"
	"github.com/apifailover/caddy-failover/internal/outcome"
)

// Validate implements caddy.Validator. Provision calls it before it takes
// anything.
func (p *Policy) Validate() error {
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
	if e.URL != "" && !hasGiven(e.URL) {
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
	return nil
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
	return fmt.Errorf("%s must be %s or %s, not %q%s", option, strings.Join(words[:last], ", "), words[last], word, meant(word, words...))
}
