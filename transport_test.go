package failover

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

// TestDialsOfTheProxy reads the dial errors that the proxy's transport makes.
func TestDialsOfTheProxy(t *testing.T) {
	for _, test := range []struct {
		name string
		err  error
		want outcome
	}{
		{"refused", reverseproxy.NewDialError(&net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}), failedDial},
		{"wrapped", fmt.Errorf("x: %w", reverseproxy.NewDialError(errors.New("no such host"))), failedDial},
		{"too slow", reverseproxy.NewDialError(&net.OpError{Op: "dial", Err: context.DeadlineExceeded}), failedDial},
		{"no descriptor left", reverseproxy.NewDialError(os.NewSyscallError("socket", syscall.EMFILE)), unsent},
	} {
		if got := outcomeOf(test.err); got != test.want {
			t.Errorf("%s: got %q, want %q", test.name, got, test.want)
		}
	}
}
