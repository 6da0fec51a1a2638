package failover

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/apifailover/caddy-failover/internal/target"
)

// matchUpstreams creates a target for every upstream of the handler, in order, with the
// configuration of the endpoint at that address, if there is one.
func (p *Policy) matchUpstreams(handler *reverseproxy.Handler) error {
	free := slices.Clone(p.Endpoints)
	names := make(map[string]bool)
	hosts := make(map[string]string)
	place := 0
	for _, upstream := range handler.Upstreams {
		if !p.copies[upstream] {
			place++
		}
		e := &Endpoint{Name: upstream.Dial, Upstream: upstream.Dial, URL: p.urls[upstream]}
		if at := slices.IndexFunc(free, func(e *Endpoint) bool { return e.Upstream == upstream.Dial }); at >= 0 {
			e = free[at]
			free = slices.Delete(free, at, at+1)
		}
		if names[e.Name] {
			return e.wrap(errors.New("the name is used twice"))
		}
		names[e.Name] = true
		t := p.newTarget(e, place)
		t.Upstream = upstream
		if t.URL != nil && t.URL.Scheme == "https" {
			// TLS connections are pooled by the URL's host
			if other, ok := hosts[t.URL.Host]; ok && other != t.Address {
				return e.wrap(fmt.Errorf("%s is also dialed at %s; one TLS host has one address", t.URL.Host, other))
			}
			hosts[t.URL.Host] = t.Address
		}
		p.handler.Targets = append(p.handler.Targets, t)
	}
	if p.handler.Dynamic == nil && len(free) > 0 {
		return free[0].wrap(fmt.Errorf("no upstream of the proxy has the address %s", free[0].Upstream))
	}
	slices.SortStableFunc(p.handler.Targets, func(a, b *target.Target) int { return cmp.Compare(a.Priority, b.Priority) })
	for _, t := range p.handler.Targets {
		p.handler.Strips = p.handler.Strips || t.Strip
		p.handler.HasQuotas = p.handler.HasQuotas || t.Quota
	}
	for _, e := range p.Endpoints {
		p.readEdits(e)
		p.handler.Below = p.handler.Below || e.below()
		p.handler.Strips = p.handler.Strips || e.ownCredentials() || p.ClientCredentials == credentialsStrip
	}
	p.handler.StripsAll = p.handler.Strips && p.ClientCredentials != credentialsPass
	if p.handler.Strips {
		p.handler.Screen = target.NewScreen(p.setFields())
	}
	if p.handler.Dynamic != nil {
		for _, e := range append(slices.Clone(p.Endpoints), new(Endpoint)) {
			p.handler.HasQuotas = p.handler.HasQuotas || p.newTarget(e, 1).Quota
		}
		// a fallback to static upstreams goes by address as well
		p.handler.Targets = nil
	}
	return nil
}

// endpointAt returns the configuration of a dynamic upstream.
func (p *Policy) endpointAt(address string) *Endpoint {
	for _, e := range p.Endpoints {
		if e.Upstream == address {
			return e
		}
	}
	return &Endpoint{Name: address, Upstream: address}
}

func (p *Policy) defaultName() string {
	switch {
	case len(p.handler.Targets) > 0:
		first := p.handler.Targets[0]
		for _, t := range p.handler.Targets {
			if t.Upstream != nil && len(p.Endpoints) > 0 && t.Name == p.Endpoints[0].Name {
				first = t
			}
		}
		return first.Name
	case len(p.Endpoints) > 0:
		return p.Endpoints[0].Name
	}
	return "dynamic"
}
