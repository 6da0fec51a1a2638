package target

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"

	"github.com/apifailover/caddy-failover/internal/outcome"
)

// TestDialsOfTheProxy classifies the dial errors of the proxy's transport.
func TestDialsOfTheProxy(t *testing.T) {
	for _, test := range []struct {
		name string
		err  error
		want outcome.Outcome
	}{
		{"refused", reverseproxy.NewDialError(&net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}), outcome.FailedDial},
		{"wrapped", fmt.Errorf("x: %w", reverseproxy.NewDialError(errors.New("no such host"))), outcome.FailedDial},
		{"too slow", reverseproxy.NewDialError(&net.OpError{Op: "dial", Err: context.DeadlineExceeded}), outcome.FailedDial},
		{"no descriptor left", reverseproxy.NewDialError(os.NewSyscallError("socket", syscall.EMFILE)), outcome.Unsent},
	} {
		if got := OutcomeOf(test.err); got != test.want {
			t.Errorf("%s: got %q, want %q", test.name, got, test.want)
		}
	}
}

// TestDialingAt checks that a later dial gets its address, and the request's vars as they were when the dial began: the
// request may have gone on meanwhile, and two goroutines must not use them at the same time.
func TestDialingAt(t *testing.T) {
	vars := map[string]any{"via": "one"}
	ctx := context.WithValue(t.Context(), caddyhttp.VarsCtxKey, vars)
	ctx = context.WithValue(ctx, DialInfoKey, reverseproxy.DialInfo{Address: "api.test:80", Host: "api.test"})
	at := DialingAt(ctx)
	vars["via"] = "two"
	for _, want := range []string{"192.0.2.1:80", "192.0.2.2:80"} {
		dial := at(want)
		if got, _ := reverseproxy.GetDialInfo(dial); got.Address != want || got.Host != "api.test" {
			t.Errorf("the dial at %s goes to %s of %s", want, got.Address, got.Host)
		}
		if got := caddyhttp.GetVar(dial, "via"); got != "one" {
			t.Errorf("the dial at %s finds the var %v", want, got)
		}
	}
}
