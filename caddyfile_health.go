package failover

import (
	"net/http"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/apifailover/caddy-failover/internal/outcome"
)

var healthOptions = map[string]option[*Health]{
	"uri":           text(func(h *Health) *string { return &h.URI }),
	"method":        text(func(h *Health) *string { return &h.Method }),
	"port":          count(func(h *Health) *int { return &h.Port }, 1),
	"interval":      duration(func(h *Health) *caddy.Duration { return &h.Interval }),
	"fast_interval": duration(func(h *Health) *caddy.Duration { return &h.FastInterval }),
	"timeout":       duration(func(h *Health) *caddy.Duration { return &h.Timeout }),
	"passes":        count(func(h *Health) *int { return &h.Passes }, 1),
	"fails":         count(func(h *Health) *int { return &h.Fails }, 1),
	"expect_status": {read: func(_ *reader, d *caddyfile.Dispenser, h *Health) error {
		if h.ExpectStatus = d.RemainingArgs(); len(h.ExpectStatus) == 0 {
			return d.ArgErr()
		}
		_, err := outcome.ParseStatusSet(h.ExpectStatus)
		return wrap(d, err)
	}},
	"expect_body": text(func(h *Health) *string { return &h.ExpectBody }),
	"header": {repeatable: true, read: func(_ *reader, d *caddyfile.Dispenser, h *Health) error {
		args := d.RemainingArgs()
		if len(args) != 2 {
			return d.Err("header: want header <field> <value>")
		}
		if h.Headers == nil {
			h.Headers = make(http.Header)
		}
		h.Headers.Add(args[0], args[1])
		return nil
	}},
	"body": text(func(h *Health) *string { return &h.Body }),
}

// readHealth reads `health off`, `health { ... }` or `health grpc [<service>] { ... }`.
func readHealth(r *reader, d *caddyfile.Dispenser, p *Policy) error {
	p.Health = new(Health)
	at := here(d)
	if d.NextArg() {
		switch d.Val() {
		case "off":
			p.Health.Off = true
			return nil
		case wordGRPC:
			p.Health.GRPC = readService(d)
		default:
			return d.Errf("health %s: want off or a block, or grpc [<service>]%s", d.Val(), meant(d.Val(), "off", wordGRPC))
		}
		if d.NextArg() {
			return d.Errf("unexpected argument %q of health grpc", d.Val())
		}
	}
	if err := readBlock(r, d, "health", healthOptions, p.Health); err != nil {
		return err
	}
	return at.wrap(p.Health.validate())
}

// wordGRPC is the word for a gRPC check.
const wordGRPC = "grpc"

// readService reads `[<service>]` of a gRPC check.
func readService(d *caddyfile.Dispenser) *GRPCHealth {
	g := new(GRPCHealth)
	if d.NextArg() {
		g.Service = d.Val()
	}
	return g
}

// readEndpointHealth reads `health off`, `health grpc [<service>]` or `health <METHOD> <uri>`.
func readEndpointHealth(_ *reader, d *caddyfile.Dispenser, e *Endpoint) error {
	args := d.RemainingArgs()
	switch {
	case len(args) == 1 && args[0] == "off":
		e.Health = &EndpointHealth{Off: true}
	case len(args) > 0 && len(args) < 3 && args[0] == wordGRPC:
		e.Health = &EndpointHealth{GRPC: &GRPCHealth{Service: strings.Join(args[1:], "")}}
	case len(args) == 2:
		e.Health = &EndpointHealth{Method: args[0], URI: args[1]}
	default:
		return d.Err("health of an endpoint: want health off, health <METHOD> <uri> or health grpc [<service>]")
	}
	return wrap(d, e.Health.validate())
}
