package link

import (
	"context"
	"errors"
	"net"
	"net/http/httptrace"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// addressKey is the key of the address that a dial takes.
type addressKey struct{}

// TestAnyAddress dials names whose addresses refuse, connect after a time or never answer. The dial of a name tries
// them as package net does: one after another, each for 2 s.
func TestAnyAddress(t *testing.T) {
	const never, refused = time.Hour, -1
	for name, test := range map[string]struct {
		takes []time.Duration // of 192.0.2.0, 192.0.2.1 and so on
		want  string          // the remote address; empty: none
		after time.Duration
		dials int // of addresses
	}{
		"one":                     {[]time.Duration{time.Second}, "192.0.2.0:1", time.Second, 0},
		"the first in time":       {[]time.Duration{stagger - 1, 0}, "192.0.2.0:1", stagger - 1, 0},
		"the first is slow":       {[]time.Duration{stagger + 2, time.Second}, "192.0.2.0:1", stagger + 2, 1},
		"the first never answers": {[]time.Duration{never, 10 * time.Millisecond}, "192.0.2.1:1", stagger + 10*time.Millisecond, 1},
		"the first refuses":       {[]time.Duration{refused, 10 * time.Millisecond}, "192.0.2.1:1", 10 * time.Millisecond, 0},
		"one of four":             {[]time.Duration{never, refused, never, 0}, "192.0.2.3:1", 3 * stagger, 3},
		"none":                    {[]time.Duration{never, never}, "", 4 * time.Second, 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var mu sync.Mutex
				var dialed, open []string
				one := func(ctx context.Context, i int) (net.Conn, error) {
					if test.takes[i] == refused {
						return nil, errors.New("refused")
					}
					ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
					defer cancel()
					ours, theirs := net.Pipe()
					theirs.Close()
					timer := time.NewTimer(test.takes[i])
					defer timer.Stop()
					select {
					case <-timer.C:
						addr := net.JoinHostPort(net.IPv4(192, 0, 2, byte(i)).String(), "1")
						mu.Lock()
						open = append(open, addr)
						mu.Unlock()
						return &remote{ours, addr, func() {
							mu.Lock()
							open = slices.DeleteFunc(open, func(one string) bool { return one == addr })
							mu.Unlock()
						}}, nil
					case <-ctx.Done():
						ours.Close()
						return nil, ctx.Err()
					}
				}
				began := time.Now()
				dial := anyAddress(func(ctx context.Context, _, addr string) (net.Conn, error) {
					if at, ok := ctx.Value(addressKey{}).(string); ok {
						mu.Lock()
						dialed = append(dialed, at)
						mu.Unlock()
						host, _, _ := net.SplitHostPort(at)
						return one(ctx, int(net.ParseIP(host).To4()[3]))
					}
					var found []net.IPAddr
					for i := range test.takes {
						found = append(found, net.IPAddr{IP: net.IPv4(192, 0, 2, byte(i))}, net.IPAddr{IP: net.IPv6loopback})
					}
					httptrace.ContextClientTrace(ctx).DNSDone(httptrace.DNSDoneInfo{Addrs: found})
					err := errors.New("no address")
					for i := range test.takes {
						var conn net.Conn
						if conn, err = one(ctx, i); err == nil || ctx.Err() != nil {
							return conn, err
						}
					}
					return nil, err
				}, func(ctx context.Context) func(string) context.Context {
					if since := time.Since(began); since > 0 {
						t.Errorf("the context of later dials is made after %v", since)
					}
					return func(addr string) context.Context { return context.WithValue(ctx, addressKey{}, addr) }
				})
				conn, err := dial(t.Context(), "tcp", "api.test:1")
				got := ""
				if err == nil {
					got = conn.(*remote).addr
				}
				if took := time.Since(began); got != test.want || took != test.after {
					t.Errorf("got %q (%v) after %v", got, err, took)
				}
				synctest.Wait()
				mu.Lock()
				defer mu.Unlock()
				if len(dialed) != test.dials {
					t.Errorf("dialed %v", dialed)
				}
				if test.want != "" && !slices.Equal(open, []string{test.want}) || test.want == "" && len(open) > 0 {
					t.Errorf("%v are open", open)
				}
			})
		})
	}
}

// A remote is a connection to an address.
type remote struct {
	net.Conn
	addr   string
	closed func()
}

func (r *remote) Close() error {
	r.closed()
	return r.Conn.Close()
}
