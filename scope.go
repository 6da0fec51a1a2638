package failover

import (
	"errors"
	"fmt"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

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

// Scope says what kind of call a request is: for which model, method or route. What fails for one
// kind keeps only calls of that kind from the endpoint.
type Scope struct {
	// Where the kind stands: `text` (which has placeholders), `json` (a field of the request's
	// JSON body), `path_model` (the path's segment after `models`), `grpc_service` (the service of
	// a call of gRPC), or `off` (nowhere, whatever `api` says). Required.
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
		if !strings.Contains(s.Value, "{") {
			return fmt.Errorf("scope %q is the same for all requests: want a placeholder, %s <path> (such as %[2]s model), %s, %s or %s%s",
				s.Value, scopeJSON, scopeModel, scopeService, scopeOff, meant(s.Value, scopeService, scopeOff))
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

// scope returns the scope in force: the option's, else that of the API. Nil: calls have none.
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

// source returns where calls find their scope.
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
