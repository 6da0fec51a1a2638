package target

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strconv"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/apifailover/caddy-failover/internal/outcome"
)

// DialInfoKey is the context key under which the proxy's transport finds the address to
// dial. The proxy's constant for it is not exported.
const DialInfoKey caddy.CtxKey = "reverse_proxy.dial_info"

// DialInfo returns how to dial an upstream for a request. It does the same as the proxy, whose
// function is not exported.
func DialInfo(u *reverseproxy.Upstream, r *http.Request) (*reverseproxy.DialInfo, error) {
	dial := u.Dial
	if repl, ok := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer); ok {
		dial = repl.ReplaceAll(dial, "")
	}
	addr, err := caddy.ParseNetworkAddress(dial)
	if err != nil {
		return nil, fmt.Errorf("parsing the address %s: %w", dial, err)
	}
	return &reverseproxy.DialInfo{
		Upstream: u,
		Network:  addr.Network,
		Address:  addr.JoinHostPort(0),
		Host:     addr.Host,
		Port:     strconv.Itoa(int(addr.StartPort)),
	}, nil
}

// DialingAt returns a function that returns a context in which the proxy's transport dials an address instead of the one that
// it finds in ctx. The transport reads the request's vars, which may be written when the request is over. So the context
// has those of now.
func DialingAt(ctx context.Context) func(addr string) context.Context {
	dial, ok := reverseproxy.GetDialInfo(ctx)
	if vars, has := ctx.Value(caddyhttp.VarsCtxKey).(map[string]any); has {
		ctx = context.WithValue(ctx, caddyhttp.VarsCtxKey, maps.Clone(vars))
	}
	return func(addr string) context.Context {
		if !ok {
			return ctx
		}
		dial := dial
		dial.Address = addr
		return context.WithValue(ctx, DialInfoKey, dial)
	}
}

// Short describes an error of the proxy's transport in a few words, as outcome.Short does.
func Short(err error) string {
	if dial, ok := errors.AsType[reverseproxy.DialError](err); ok {
		return outcome.ShortOfDial(dial)
	}
	return outcome.Short(err)
}

// OutcomeOf classifies an error of the proxy's transport, including its DialError.
func OutcomeOf(err error) outcome.Outcome {
	if dial, ok := errors.AsType[reverseproxy.DialError](err); ok {
		return outcome.OfDial(dial)
	}
	return outcome.OfError(err)
}
