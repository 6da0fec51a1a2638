package failover

import (
	"cmp"
	"errors"
	"fmt"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"golang.org/x/net/http/httpguts"

	"github.com/apifailover/caddy-failover/internal/call"
	"github.com/apifailover/caddy-failover/internal/dialect"
	"github.com/apifailover/caddy-failover/internal/jsondoc"
)

// The kinds of [Scope.By].
const (
	scopeText    = "text"
	scopeJSON    = "json"
	scopeModel   = "path_model"
	scopeService = "grpc_service"
	scopeOff     = "off"
)

// Scope sets the kind of each request: its model, method or route. Failures of one kind keep only
// requests of that kind from the endpoint.
type Scope struct {
	// Where a request states its kind: `text` (with placeholders), `json` (a field of the JSON body),
	// `path_model` (the path's segment after `models`), `grpc_service` (the service of a gRPC call),
	// or `off` (nowhere, even if `api` sets a place). Required.
	By string `json:"by,omitempty"`

	// The text, with placeholders, or the path of the field, as in `set_json`. Default: none;
	// `text` and `json` need one.
	Value string `json:"value,omitempty"`
}

func (s *Scope) validate() error {
	if s == nil {
		return nil
	}
	if err := oneOf("scope", s.By, scopeText, scopeJSON, scopeModel, scopeService, scopeOff); err != nil {
		return err
	}
	switch s.By {
	case "":
		return errors.New("scope: by is missing")
	case scopeText:
		if !varies(s.Value) {
			return fmt.Errorf("scope %q is the same for all requests: want a placeholder, %s <path> (such as %[2]s model), %s, %s or %s%s",
				s.Value, scopeJSON, scopeModel, scopeService, scopeOff, suggest(s.Value, scopeService, scopeOff))
		}
		if err := checkPlaceholders(s.Value); err != nil {
			return fmt.Errorf("scope: %w", err)
		}
	case scopeJSON:
		if _, err := jsondoc.ParseField(s.Value); err != nil {
			return fmt.Errorf("scope %s %s: %w", scopeJSON, s.Value, err)
		}
	default:
		if s.Value != "" {
			return fmt.Errorf("scope %s takes no value", s.By)
		}
	}
	return nil
}

// varies reports whether a text has a placeholder whose value depends on the request.
func varies(text string) bool {
	return placeholder.MatchString(loadPlaceholders.ReplaceAllString(text, ""))
}

// scope returns the scope in force: that of the option, else that of the API. nil means that calls
// have none.
func (p *Policy) scope() *Scope {
	if p.Scope != nil {
		if p.Scope.By == scopeOff {
			return nil
		}
		return p.Scope
	}
	api := p.dialect()
	switch {
	case api == nil:
		return nil
	case api.Scope.In == dialect.InBody:
		return &Scope{By: scopeJSON, Value: api.Scope.Field}
	case api.Scope.In == dialect.InPath:
		return &Scope{By: scopeModel}
	case api.Scope.In == dialect.InService:
		return &Scope{By: scopeService}
	}
	return nil
}

// source converts the option, which must be valid.
func (s *Scope) source() call.KeySource {
	switch s.By {
	case scopeJSON:
		field, _ := jsondoc.ParseField(s.Value)
		return call.ScopeOfJSON(field)
	case scopeModel:
		return call.ScopeOfModel()
	case scopeService:
		return call.ScopeOfService()
	}
	return call.KeyOfPlaceholders(s.Value)
}

// readScope reads `scope <text> | json <path> | path_model | grpc_service | off`.
func readScope(_ *reader, d *caddyfile.Dispenser, p *Policy) error {
	word, err := argument(d)
	if err != nil {
		return err
	}
	s := &Scope{By: word}
	switch word {
	case scopeModel, scopeService, scopeOff:
	case scopeJSON:
		if s.Value, err = argument(d); err != nil {
			return err
		}
	default:
		s.By, s.Value = scopeText, word
	}
	p.Scope = s
	return wrap(d, s.validate())
}

// The kinds of [Affinity.By].
const (
	affinityText     = "text"
	affinityJSON     = "json"
	affinityClientIP = "client_ip"
	affinityCookie   = "cookie"
)

const defaultAffinityCookie = "failover"

// Affinity sends requests with a common value to the same endpoint of a tier, where caches and
// sessions can serve them. It is soft: requests skip an endpoint that is out, full or in cooldown,
// and return with it.
type Affinity struct {
	// The kind of the common value: `text` (with placeholders), `json` (a field of the JSON body),
	// `client_ip`, or `cookie`. Required.
	By string `json:"by,omitempty"`

	// The text with placeholders, the path of the field as in `set_json`, or the name of the
	// cookie. Default: `failover` for a cookie.
	Value string `json:"value,omitempty"`

	// The secret that signs the cookie. Caddy replaces `{env.*}` and `{file.*}` when it loads the
	// configuration. Cookies outlive a restart, and work at several instances, only with a
	// configured secret. Default: a random secret of the process.
	Secret string `json:"secret,omitempty"`
}

func (a *Affinity) validate() error {
	if err := oneOf("affinity", a.By, affinityText, affinityJSON, affinityClientIP, affinityCookie); err != nil {
		return err
	}
	switch {
	case a.By == "":
		return errors.New("affinity: by is missing")
	case a.Secret != "" && a.By != affinityCookie:
		return fmt.Errorf("affinity: only a %s has a secret", affinityCookie)
	case a.By == affinityClientIP && a.Value != "":
		return fmt.Errorf("affinity %s takes no value", affinityClientIP)
	case a.By == affinityText && !varies(a.Value):
		return fmt.Errorf("affinity %q is the same for all requests: want a placeholder, %s <path>, %s or %s%s", a.Value, affinityJSON, affinityClientIP, affinityCookie,
			suggestAffinity(a.Value))
	case a.By == affinityCookie && !httpguts.ValidHeaderFieldName(a.name()):
		return fmt.Errorf("affinity: %q is not a valid cookie name", a.Value)
	}
	if err := cmp.Or(checkPlaceholders(a.Value), checkCredential(a.Secret)); err != nil {
		return fmt.Errorf("affinity: %w", err)
	}
	if a.By == affinityJSON {
		if _, err := jsondoc.ParseField(a.Value); err != nil {
			return fmt.Errorf("affinity %s %s: %w", affinityJSON, a.Value, err)
		}
	}
	return nil
}

// suggestAffinity returns the end of an error about a text that is the same for all requests.
func suggestAffinity(text string) string {
	if strings.HasSuffix(text, "ip") || strings.HasSuffix(text, "ip_hash") {
		text = affinityClientIP
	}
	return suggest(text, affinityClientIP, affinityCookie)
}

// name returns the name of the cookie.
func (a *Affinity) name() string {
	if a.Value == "" {
		return defaultAffinityCookie
	}
	return a.Value
}

// source converts the option, which must be valid.
func (a *Affinity) source() call.KeySource {
	switch a.By {
	case affinityJSON:
		field, _ := jsondoc.ParseField(a.Value)
		return call.KeyOfJSON(field)
	case affinityClientIP:
		return call.KeyOfClient()
	case affinityCookie:
		secret, _ := expand(a.Secret)
		return call.KeyOfCookie(a.name(), secret)
	}
	return call.KeyOfPlaceholders(a.Value)
}

// readAffinity reads `affinity <text>|json <path>|client_ip|cookie [<name> [<secret>]]`.
func readAffinity(_ *reader, d *caddyfile.Dispenser, p *Policy) error {
	word, err := argument(d)
	if err != nil {
		return err
	}
	a := &Affinity{By: word}
	switch word {
	case affinityClientIP:
	case affinityJSON:
		if a.Value, err = argument(d); err != nil {
			return err
		}
	case affinityCookie:
		if d.NextArg() {
			a.Value = d.Val()
		}
		if d.NextArg() {
			a.Secret = d.Val()
		}
	case "header", "query":
		if d.NextArg() {
			return d.Errf("affinity %s: write affinity {%[1]s.%s}", word, d.Val())
		}
		fallthrough
	default:
		a.By, a.Value = affinityText, word
	}
	p.Affinity = append(p.Affinity, a)
	return wrap(d, a.validate())
}
