package failover

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/headers"

	"github.com/apifailover/caddy-failover/internal/target"
)

// Endpoint configures one API endpoint of a pool: an upstream of the proxy with its own base
// URL, credentials, priority and weight.
type Endpoint struct {
	// The dial address of the upstream that this endpoint is. Several endpoints may share an
	// address; then they match upstreams in order. Caddy replaces `{env.*}` and `{file.*}` when
	// it loads the configuration, and the value may be a base URL. Default: host and port of `url`.
	Upstream string `json:"upstream,omitempty"`

	// The base URL, `http` or `https`. The request's path is appended to its path. Its host is
	// the Host header and, with `https`, the TLS server name. Caddy replaces `{env.*}` and
	// `{file.*}` when it loads the configuration. An endpoint that has credentials and is not on
	// this machine needs a URL, unless the proxy's transport uses TLS. Default: none; the proxy
	// sets scheme, path and Host.
	URL string `json:"url,omitempty"`

	// The name of the endpoint in logs, metrics and the admin API. It is unique in the pool.
	// Default: the dial address.
	Name string `json:"name,omitempty"`

	// The tier of the endpoint, from 1, the most preferred. Endpoints with the same priority
	// share the load. Default: the endpoint's place in the list.
	Priority int `json:"priority,omitempty"`

	// The endpoint's part of its tier's load, relative to the other weights. An endpoint with 0
	// gets no requests, but its health is checked. Default: 1.
	Weight *float64 `json:"weight,omitempty"`

	// The rate limits of the endpoint's provider. All of them apply. Default: no limit.
	Limits []*Limit `json:"limits,omitempty"`

	// Changes at planned times. Of the schedules in force, the first one with a weight sets the
	// weight, and the first one with a priority sets the priority. Default: none.
	Schedules []*Schedule `json:"schedules,omitempty"`

	// Header operations on requests to this endpoint. Values may contain placeholders. `{env.*}`
	// and `{file.*}` must have a value when Caddy loads the configuration. Default: none.
	Headers *headers.HeaderOps `json:"headers,omitempty"`

	// Keys of the API. The pool's `api` sets how they are sent. Each of several keys is an endpoint
	// of the same tier, named `name-1`, `name-2` and so on. Placeholders work as in `headers`.
	// Default: none.
	Keys []string `json:"keys,omitempty"`

	// The endpoint's names for models, if the pool's `api` has models. If every entry has `asked`,
	// the endpoint gets only requests for these models and requests that name no model. Default:
	// it gets any model, under the name that clients use.
	Models []*Model `json:"models,omitempty"`

	// Values to set in JSON request bodies for this endpoint, in order. Default: none.
	SetJSON []*SetJSON `json:"set_json,omitempty"`

	// The longest time from the start of an attempt to the first byte that `commit` waits for.
	// Default: the pool's `timeout`.
	Timeout caddy.Duration `json:"timeout,omitempty"`

	// Timeouts for certain requests. The first match overrides `timeout`. Default: the pool's
	// `timeouts`, unless the endpoint has a `timeout`.
	Timeouts []*Timeout `json:"timeouts,omitempty"`

	// The largest number of attempts in flight. Requests skip an endpoint that has reached it.
	// Default: no limit.
	MaxRequests int `json:"max_requests,omitempty"`

	// Whose credentials or quota a 401, 402, 403 or 429 is about: `endpoint` (it counts against
	// the endpoint, and the request moves on) or `client` (it is a response like any other).
	// Default: the pool's `quota`.
	Quota string `json:"quota,omitempty"`

	// How the endpoint's health checks differ from the pool's. Default: not at all.
	Health *EndpointHealth `json:"health,omitempty"`

	// The place of the endpoint in a Caddyfile. Only error messages use it. Default: none.
	DefinedAt string `json:"defined_at,omitempty"`
}

// Timeout is a timeout for certain requests.
type Timeout struct {
	// The requests, by Caddy's request matchers. A request matches if one of the sets matches.
	// Default: every request.
	MatcherSetsRaw caddyhttp.RawMatcherSets `json:"match,omitempty" caddy:"namespace=http.matchers"`

	// The timeout of these requests. Required.
	Timeout caddy.Duration `json:"timeout,omitempty"`

	matchers caddyhttp.MatcherSets
}

// ownCredentials reports whether the endpoint sets credentials of its own.
func (e *Endpoint) ownCredentials() bool {
	if u, err := url.Parse(e.URL); err == nil && u.User != nil {
		return true
	}
	return setsCredentials(e.Headers)
}

// setsCredentials reports whether header operations set a field for credentials, or set any field
// to a value of the environment or of a file.
func setsCredentials(ops *headers.HeaderOps) bool {
	if ops == nil {
		return false
	}
	for _, fields := range []http.Header{ops.Set, ops.Add} {
		for field, values := range fields {
			if target.SetsCredential(field) || slices.ContainsFunc(values, hasPlaceholder) {
				return true
			}
		}
	}
	return false
}

// passesCredentials reports whether the endpoint sets a field for credentials to a value of the client's
// request.
func (e *Endpoint) passesCredentials() bool {
	if e.Headers == nil {
		return false
	}
	for _, fields := range []http.Header{e.Headers.Set, e.Headers.Add} {
		for field, values := range fields {
			if target.SetsCredential(field) && slices.ContainsFunc(values, func(v string) bool { return strings.Contains(v, ofClient) }) {
				return true
			}
		}
	}
	return false
}

// checkValues checks that each placeholder of the environment or of a file in the endpoint's
// headers and bodies has a value, and that no credential is empty.
func (e *Endpoint) checkValues() error {
	if e.Headers != nil {
		for _, fields := range []http.Header{e.Headers.Set, e.Headers.Add} {
			if err := checkFields(fields); err != nil {
				return err
			}
		}
	}
	for _, s := range e.SetJSON {
		if _, err := expand(string(s.Value)); err != nil {
			return fmt.Errorf("set_json %s: %w", s.Path, err)
		}
	}
	return nil
}

func checkFields(fields http.Header) error {
	for field, values := range fields {
		for _, value := range values {
			if _, err := expand(value); err != nil {
				return fmt.Errorf("header %s: %w", field, err)
			}
			if words := strings.Fields(value); target.SetsCredential(field) && (len(words) == 0 ||
				len(words) == 1 && slices.Contains([]string{"bearer", "basic", "token"}, strings.ToLower(words[0]))) {
				return fmt.Errorf("header %s: %q has no credential; is a variable that it should come from not set?", field, value)
			}
		}
	}
	return nil
}

// called returns the endpoint's name, or its address if the name is not set yet.
func (e *Endpoint) called() string {
	name := cmp.Or(e.Name, e.Upstream)
	if name == "" {
		if u, err := url.Parse(e.URL); err == nil {
			name = target.RedactURL(u)
		}
	}
	return name
}

// at returns the endpoint's name for an error message.
func (e *Endpoint) at() string {
	if e.DefinedAt != "" {
		return fmt.Sprintf("endpoint %q (%s)", e.called(), e.DefinedAt)
	}
	return fmt.Sprintf("endpoint %q", e.called())
}

// provision makes the endpoint's configuration ready for use.
func (e *Endpoint) provision(ctx caddy.Context) error {
	if e.Headers != nil {
		if err := e.Headers.Provision(ctx); err != nil {
			return e.wrap(fmt.Errorf("provisioning headers: %w", err))
		}
	}
	return e.wrap(provisionTimeouts(ctx, e.Timeouts))
}

func provisionTimeouts(ctx caddy.Context, timeouts []*Timeout) error {
	for _, t := range timeouts {
		loaded, err := ctx.LoadModule(t, "MatcherSetsRaw")
		if err != nil {
			return fmt.Errorf("loading matchers of a timeout: %w", err)
		}
		if err := t.matchers.FromInterface(loaded); err != nil {
			return fmt.Errorf("loading matchers of a timeout: %w", err)
		}
	}
	return nil
}

// newTarget merges the configuration of an endpoint with the pool's. The URL must be valid. place is
// the default priority.
func (p *Policy) newTarget(e *Endpoint, place int) *target.Target {
	t := &target.Target{
		Name:     cmp.Or(e.Name, e.Upstream),
		Address:  e.Upstream,
		Priority: cmp.Or(e.Priority, place),
		Weight:   1,
		Headers:  e.Headers,
		Timeout:  time.Duration(cmp.Or(e.Timeout, p.Timeout)),
		Timeouts: matchedTimeouts(slices.Concat(e.Timeouts, poolTimeouts(e, p))),
		Bounds:   e.bounds(),

		Schedules: schedules(e.Schedules),
		Hedge:     new(target.HedgeDelay),
		Health:    e.Health.override(),
	}
	if e.Weight != nil {
		t.Weight = *e.Weight
	}
	if e.URL != "" {
		t.URL, _ = parseBaseURL(e.URL)
		t.Host = t.URL.Host
		t.Bare = t.URL.Scheme == "http" && strings.Trim(t.URL.Path, "/") == ""
		if user := t.URL.User; user != nil {
			t.URL.User = nil
			t.Headers = target.WithBasicAuth(t.Headers, user)
		}
	}
	t.Models = p.models(e)
	t.SetEdits(jsonEdits(e.SetJSON))
	t.NeedsJSON = t.NeedsJSON || t.Models != nil && t.EditsBody()
	t.Own = e.ownCredentials()
	switch cmp.Or(e.Quota, p.Quota) {
	case quotaEndpoint:
		t.Quota = true
	case quotaClient:
	default:
		t.Quota = t.Own && !e.passesCredentials()
	}
	switch p.ClientCredentials {
	case credentialsStrip:
		t.Strip = true
	case credentialsPass:
		t.Strip = t.Own
	default:
		t.Strip = slices.ContainsFunc(p.Endpoints, (*Endpoint).ownCredentials)
	}
	return t
}

// poolTimeouts returns the pool's timeouts for certain requests. It returns none if the endpoint
// has a timeout for every request, which overrides them.
func poolTimeouts(e *Endpoint, p *Policy) []*Timeout {
	if e.Timeout != 0 {
		return nil
	}
	return p.Timeouts
}

// matchedTimeouts converts timeouts, which must be provisioned.
func matchedTimeouts(list []*Timeout) []target.MatchedTimeout {
	var ready []target.MatchedTimeout
	for _, t := range list {
		ready = append(ready, target.MatchedTimeout{Matchers: t.matchers, Timeout: time.Duration(t.Timeout)})
	}
	return ready
}

// below reports whether the endpoint has a base URL with a path.
func (e *Endpoint) below() bool {
	u, err := url.Parse(e.URL)
	return err == nil && strings.Trim(u.Path, "/") != ""
}
