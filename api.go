package failover

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/headers"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/apifailover/caddy-failover/internal/answer"
	"github.com/apifailover/caddy-failover/internal/call"
	"github.com/apifailover/caddy-failover/internal/dialect"
	"github.com/apifailover/caddy-failover/internal/outcome"
	"github.com/apifailover/caddy-failover/internal/target"
)

// Model maps the name of a model to the endpoint's name for it.
type Model struct {
	// The name that clients use. Default: every name without an entry of its own.
	Asked string `json:"asked,omitempty"`

	// The name that the endpoint gets instead. Required.
	Name string `json:"name,omitempty"`
}

// dialect returns the dialect of the pool's API, or nil.
func (p *Policy) dialect() *dialect.Dialect { return dialect.Of(p.API) }

// validateAPI checks `api`, and the options of endpoints that need it.
func (p *Policy) validateAPI() error {
	if err := oneOf("api", p.API, dialect.Names()...); err != nil {
		return err
	}
	for _, e := range p.Endpoints {
		if err := p.validateAPIOf(e); err != nil {
			return e.wrap(err)
		}
	}
	return nil
}

func (p *Policy) validateAPIOf(e *Endpoint) error {
	if err := e.validateKeys(p.dialect()); err != nil {
		return err
	}
	if err := e.validateModels(p.dialect()); err != nil {
		return err
	}
	return e.validateTokens(p.dialect())
}

// checkAPIWords is validateAPI for the options of a Caddyfile.
func (p *Policy) checkAPIWords() error {
	for _, e := range p.Endpoints {
		if err := p.validateAPIOf(e); err != nil {
			return fmt.Errorf("%w, at %s", err, e.DefinedAt)
		}
	}
	return nil
}

// validateKeys checks an endpoint's keys. Errors show no key.
func (e *Endpoint) validateKeys(api *dialect.Dialect) error {
	if len(e.Keys) == 0 {
		return nil
	}
	if api == nil {
		return fmt.Errorf("key needs the pool's api, which sets how keys are sent: give the pool api %s, or the endpoint header Authorization \"Bearer <key>\" instead",
			strings.Join(dialect.Names(), "|"))
	}
	for i, key := range e.Keys {
		words := strings.Fields(key)
		switch {
		case len(words) == 0:
			return errors.New("key: the key is empty")
		case strings.EqualFold(words[0], "bearer"):
			return fmt.Errorf("key: leave Bearer out, because api %s sets how keys are sent", api.Name)
		case strings.Contains(placeholder.ReplaceAllString(key, ""), ","):
			return errors.New("key: the key has a comma; write each further key on its own line")
		case slices.Contains(e.Keys[:i], key):
			return errors.New("key: the same key is given twice")
		}
		if err := checkCredential(key); err != nil {
			return fmt.Errorf("key: %w", err)
		}
		if strings.Contains(key, ofClient) {
			return fmt.Errorf("key: a key belongs to the endpoint, and no client may set it; "+
				"to pass the clients' keys on, write header %s \"%s<placeholder>\", or leave the key out", api.Key.Field, api.Key.Prefix)
		}
	}
	field := api.Key.Field
	if e.Headers != nil {
		names := slices.Collect(maps.Keys(e.Headers.Set))
		names = slices.AppendSeq(names, maps.Keys(e.Headers.Add))
		names = slices.AppendSeq(names, maps.Keys(e.Headers.Replace))
		names = append(names, e.Headers.Delete...)
		for _, name := range names {
			if target.Plain(name) == target.Plain(field) {
				return fmt.Errorf("key sets %s, and so does header: remove one of them", field)
			}
		}
	}
	if u, err := url.Parse(e.URL); err == nil && u.User != nil && field == "Authorization" {
		return fmt.Errorf("key sets %s, and so do the user and password of the base URL: remove one of them", field)
	}
	return nil
}

func (e *Endpoint) validateModels(api *dialect.Dialect) error {
	seen := make(map[string]bool)
	for _, m := range e.Models {
		switch {
		case api == nil:
			return fmt.Errorf("model needs the pool's api, which says where requests name their model: give the pool api openai, or the endpoint set_json model %s instead", m.Name)
		case api.Model == dialect.Nowhere:
			return fmt.Errorf("model: requests of api %s have none", api.Name)
		case m.Name == "":
			return errors.New("model: the name is missing")
		case hasPlaceholder(m.Asked + m.Name):
			return refusePlaceholder("model", strings.TrimSpace(m.Asked+" "+m.Name))
		case api.Model == dialect.InPath && strings.ContainsAny(m.Asked+m.Name, "/:"):
			return fmt.Errorf("model %s: the name of a model of api %s cannot contain : or /", m.Name, api.Name)
		case seen[m.Asked] && m.Asked == "":
			return fmt.Errorf("model %s: the name for all other models is given twice; write model <asked> %[1]s", m.Name)
		case seen[m.Asked]:
			return fmt.Errorf("model %s is given twice", m.Asked)
		}
		seen[m.Asked] = true
	}
	return nil
}

// models converts the models of an endpoint; nil means that it takes any.
func (p *Policy) models(e *Endpoint) *target.Models {
	if len(e.Models) == 0 {
		return nil
	}
	names := make(map[string]string)
	for _, m := range e.Models {
		names[m.Asked] = m.Name
	}
	return target.NewModels(names, p.dialect().Model)
}

// spreadKeys creates an endpoint with its own upstream for each key, and sets the key's header.
func (p *Policy) spreadKeys(handler *reverseproxy.Handler) error {
	if err := p.validateAPI(); err != nil {
		return err
	}
	p.copies = make(map[*reverseproxy.Upstream]bool)
	free := slices.Clone(p.Endpoints)
	var upstreams reverseproxy.UpstreamPool
	for _, u := range handler.Upstreams {
		upstreams = append(upstreams, u)
		at := slices.IndexFunc(free, func(e *Endpoint) bool { return e.Upstream == u.Dial })
		if at < 0 {
			continue
		}
		for range len(free[at].Keys) - 1 {
			copied := &reverseproxy.Upstream{Dial: u.Dial, MaxRequests: u.MaxRequests}
			if base, ok := p.urls[u]; ok {
				p.urls[copied] = base
			}
			p.copies[copied] = true
			upstreams = append(upstreams, copied)
		}
		free = slices.Delete(free, at, at+1)
	}
	handler.Upstreams = upstreams
	var endpoints []*Endpoint
	for _, e := range p.Endpoints {
		for _, key := range e.Keys {
			if _, err := expand(key); err != nil {
				return e.wrap(fmt.Errorf("key: %w", err))
			}
		}
		if len(e.Keys) > 1 && handler.DynamicUpstreamsRaw != nil {
			return e.wrap(errors.New("an endpoint of dynamic upstreams has one key at most"))
		}
		endpoints = append(endpoints, e.eachKey(p.dialect())...)
	}
	p.Endpoints = endpoints
	return nil
}

// eachKey returns one endpoint for each key of an endpoint.
func (e *Endpoint) eachKey(api *dialect.Dialect) []*Endpoint {
	if len(e.Keys) == 0 {
		return []*Endpoint{e}
	}
	var each []*Endpoint
	for i, key := range e.Keys {
		one := *e
		one.Keys = nil
		if len(e.Keys) > 1 {
			one.Name = fmt.Sprintf("%s-%d", e.Name, i+1)
		}
		one.Timeouts = nil
		for _, t := range e.Timeouts { // provisioning changes a timeout
			copied := *t
			one.Timeouts = append(one.Timeouts, &copied)
		}
		one.Headers = withField(e.Headers, api.Key.Field, api.Key.Prefix+key)
		each = append(each, &one)
	}
	return each
}

// withField returns a copy of header operations that also sets a field. ops may be nil.
func withField(ops *headers.HeaderOps, field, value string) *headers.HeaderOps {
	with := new(headers.HeaderOps)
	if ops != nil {
		*with = *ops
	}
	if with.Set = maps.Clone(with.Set); with.Set == nil {
		with.Set = make(http.Header)
	}
	with.Set[textproto.CanonicalMIMEHeaderKey(field)] = []string{value}
	return with
}

// commitRules returns the rules of `commit`, else those of the API.
func (p *Policy) commitRules() call.CommitRules {
	api := p.dialect()
	if api == nil {
		return p.Commit.rules()
	}
	rules := p.Commit.rules()
	if p.Commit == nil {
		rules = (&Commit{After: api.Commit}).rules()
	}
	rules.JSON = true
	return rules
}

// retryRules returns the rules of `retry`, else those of the API. By default, each further key of an
// endpoint adds an attempt. So a request for which no key of an endpoint works still reaches the next
// endpoint.
func (p *Policy) retryRules() call.RetryRules {
	rules := p.Retry.rules()
	if p.Retry == nil || p.Retry.Attempts == 0 && !p.Retry.Off {
		rules.Attempts += len(p.copies)
	}
	if api := p.dialect(); api != nil && (p.Retry == nil || len(p.Retry.Methods) == 0) {
		rules.Any = api.Method == methodsAny
	}
	return rules
}

// quotaFields returns the header fields in which responses state quotas: those of the API or, without
// an API, those of all APIs.
func (p *Policy) quotaFields() (fields []outcome.QuotaFields) {
	quotas := dialect.AnyQuotas()
	if api := p.dialect(); api != nil {
		quotas = api.Quotas
	}
	for _, q := range quotas {
		fields = append(fields, outcome.QuotaFields(q))
	}
	return fields
}

// apiAnswers returns the meanings of the API's responses, except those that options of the pool
// change.
func (p *Policy) apiAnswers() ([]answer.Rule, error) {
	api := p.dialect()
	if api == nil {
		return nil, nil
	}
	failure, err := outcome.ParseStatusSet(p.FailureStatus)
	if err != nil {
		return nil, fmt.Errorf("failure_status: %w", err)
	}
	byDefault := slices.Equal(p.FailureStatus, outcome.DefaultFailureStatus)
	ofClient := p.Quota == quotaClient || slices.ContainsFunc(p.Endpoints, func(e *Endpoint) bool { return e.Quota == quotaClient })
	var rules []answer.Rule
	for _, a := range api.Answers {
		rule, err := apiRule(&a)
		if err != nil {
			return nil, fmt.Errorf("api %s: %w", api.Name, err)
		}
		rule.First, rule.OfAPI = api.FirstElement, true
		rule.OfQuota = a.OfQuota || rule.As == answer.Held && ofClient
		if !byDefault && (rule.As == answer.Next || rule.As == answer.OK) {
			for code := range rule.Status {
				rule.Status[code] = rule.Status[code] && !failure[code]
			}
		}
		rules = append(rules, rule)
	}
	return rules, nil
}

// apiRule converts a response of an API to a rule.
func apiRule(a *dialect.Answer) (answer.Rule, error) {
	option := &Answer{Status: a.Status, JSON: a.JSON, Match: a.Match, As: a.As}
	rule, err := option.rule()
	if err != nil || a.Unless == nil {
		return rule, err
	}
	option = &Answer{Status: a.Status, JSON: a.Unless.JSON, Match: a.Unless.Match, As: a.As}
	unless, err := option.rule()
	rule.Unless = &unless
	return rule, err
}

// readKey reads `key <value>`. Errors show no value.
func readKey(_ *reader, d *caddyfile.Dispenser, e *Endpoint) error {
	args := d.RemainingArgs()
	if len(args) == 0 {
		return d.Errf("key: the key is missing; is a variable that it should come from not set?")
	}
	if len(args) != 1 {
		return d.Errf("key: want one key, without Bearer; write each further key on its own line")
	}
	e.Keys = append(e.Keys, args[0])
	return nil
}

// readModel reads `model [<asked>] <name>`.
func readModel(_ *reader, d *caddyfile.Dispenser, e *Endpoint) error {
	args := d.RemainingArgs()
	switch len(args) {
	case 1:
		e.Models = append(e.Models, &Model{Name: args[0]})
	case 2:
		e.Models = append(e.Models, &Model{Asked: args[0], Name: args[1]})
	default:
		return d.Errf("model: want model [<asked>] <name>")
	}
	return nil
}

// readEdits sets what the handler changes in requests for an endpoint.
func (p *Policy) readEdits(e *Endpoint) {
	h := p.handler
	inBody := len(e.Models) > 0 && p.dialect().Model == dialect.InBody
	h.Edits = h.Edits || len(e.SetJSON) > 0 || inBody
	h.Models = h.Models || inBody
	h.PathModels = h.PathModels || len(e.Models) > 0 && p.dialect().Model == dialect.InPath
}
