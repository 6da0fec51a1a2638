package target

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"testing"

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
