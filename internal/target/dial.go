package target

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/apifailover/caddy-failover/internal/outcome"
)

// DialInfoKey is where the proxy's transport looks for the address to dial. The
// proxy's own constant is not exported.
const DialInfoKey caddy.CtxKey = "reverse_proxy.dial_info"

// DialInfo is how an upstream is dialed for a request, as the proxy has it.
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

// Short says in a few words what an error of the proxy's transport is.
func Short(err error) string {
	if dial, ok := errors.AsType[reverseproxy.DialError](err); ok {
		return outcome.ShortOfDial(dial)
	}
	return outcome.Short(err)
}

// OutcomeOf says what an error of the proxy's transport means, which knows dials of its
// own.
func OutcomeOf(err error) outcome.Outcome {
	if dial, ok := errors.AsType[reverseproxy.DialError](err); ok {
		return outcome.OfDial(dial)
	}
	return outcome.OfError(err)
}
