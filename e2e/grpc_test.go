package e2e

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// A grpcAPI is a gRPC server that echoes messages until behave changes its handler.
type grpcAPI struct {
	name    string
	address string
	trust   string // file of its certificate; empty: it speaks h2c
	server  *grpc.Server
	health  *health.Server
	hits    atomic.Int64
	handler atomic.Pointer[func(grpc.ServerStream) error]
}

func newGRPC(t testing.TB, name string) *grpcAPI {
	t.Helper()
	return startGRPC(t, &grpcAPI{name: name}, keepPort(t))
}

// newTLSGRPC is newGRPC for an endpoint that speaks TLS.
func newTLSGRPC(t testing.TB, name string) *grpcAPI {
	t.Helper()
	source := httptest.NewUnstartedServer(nil) // only for its certificate
	source.StartTLS()
	source.Close()
	g := &grpcAPI{name: name, trust: certificateOf(t, source)}
	return startGRPC(t, g, keepPort(t), grpc.Creds(credentials.NewTLS(&tls.Config{Certificates: source.TLS.Certificates})))
}

func startGRPC(t testing.TB, g *grpcAPI, address string, options ...grpc.ServerOption) *grpcAPI {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	g.address = listener.Addr().String()
	g.health = health.NewServer()
	g.server = grpc.NewServer(append(options, grpc.UnknownServiceHandler(func(_ any, s grpc.ServerStream) error {
		g.hits.Add(1)
		return (*g.handler.Load())(s)
	}))...)
	healthpb.RegisterHealthServer(g.server, g.health)
	if g.handler.Load() == nil {
		g.behave(g.echo)
	}
	server := g.server
	go server.Serve(listener)
	t.Cleanup(server.Stop)
	return g
}

func (g *grpcAPI) behave(h func(grpc.ServerStream) error) { g.handler.Store(&h) }

// echo sends each message back after the endpoint's name, and then trailers.
func (g *grpcAPI) echo(s grpc.ServerStream) error {
	asked, _ := metadata.FromIncomingContext(s.Context())
	s.SetTrailer(metadata.Pairs("served-by", g.name, "blob-bin", "\x00\x01"))
	if err := s.SetHeader(metadata.Pairs("asked-by", strings.Join(asked["caller"], ","))); err != nil {
		return err
	}
	for {
		m := new(wrapperspb.StringValue)
		if err := s.RecvMsg(m); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if err := s.SendMsg(wrapperspb.String(g.name + ": " + m.Value)); err != nil {
			return err
		}
	}
}

// ends ends calls with a status before any header or message.
func ends(code codes.Code) func(grpc.ServerStream) error {
	return func(grpc.ServerStream) error { return grpcstatus.Error(code, "as the test wants") }
}

// failingLate ends calls with a status after a header.
func failingLate(code codes.Code) func(grpc.ServerStream) error {
	return func(s grpc.ServerStream) error {
		if err := s.SendHeader(metadata.Pairs("early", "yes")); err != nil {
			return err
		}
		return grpcstatus.Error(code, "as the test wants")
	}
}

// overGRPC returns a site with gRPC endpoints.
func overGRPC(options string, apis ...*grpcAPI) string { return overKeyedGRPC(options, "", apis...) }

// overKeyedGRPC is overGRPC with an option in each endpoint's block.
func overKeyedGRPC(options, each string, apis ...*grpcAPI) string {
	scheme, transport := "http", "versions h2c"
	if apis[0].trust != "" {
		scheme, transport = "https", "versions 2\n\t\ttls_trust_pool file "+apis[0].trust
	}
	var b strings.Builder
	fmt.Fprintf(&b, "failover {\n\tname api\n\ttransport http {\n\t\t%s\n\t}\n", transport)
	for _, g := range apis {
		fmt.Fprintf(&b, "\tendpoint %s://%s {\n\t\tname %s\n\t\t%s\n\t}\n", scheme, g.address, g.name, each)
	}
	return b.String() + "\t" + options + "\n}"
}

// dialGRPC returns a gRPC client of the site.
func (p *proxy) dialGRPC() *grpc.ClientConn {
	p.t.Helper()
	cc, err := grpc.NewClient("passthrough:///api.test", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", p.file("site"))
		}))
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { cc.Close() })
	return cc
}

// unary makes a unary call and returns the answer's text.
func unary(ctx context.Context, cc *grpc.ClientConn, text string, options ...grpc.CallOption) (string, error) {
	answer := new(wrapperspb.StringValue)
	err := cc.Invoke(ctx, "/test.Echo/Unary", wrapperspb.String(text), answer, options...)
	return answer.Value, err
}

// wantUnary makes a unary call that the endpoint from must answer.
func wantUnary(t testing.TB, cc *grpc.ClientConn, from string) {
	t.Helper()
	if got, err := unary(t.Context(), cc, "hi"); err != nil || got != from+": hi" {
		t.Fatalf("got %q (%v), want it from %s", got, err, from)
	}
}

func stream(ctx context.Context, t testing.TB, cc *grpc.ClientConn, name string, client, server bool) grpc.ClientStream {
	t.Helper()
	s, err := cc.NewStream(ctx, &grpc.StreamDesc{ClientStreams: client, ServerStreams: server}, "/test.Echo/"+name)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestGRPCOfAllKinds checks unary calls and streams in each direction, with unchanged metadata and trailers.
func TestGRPCOfAllKinds(t *testing.T) {
	for _, over := range []string{"h2c", "TLS"} {
		t.Run(over, func(t *testing.T) {
			one := newGRPC(t, "one")
			if over == "TLS" {
				one = newTLSGRPC(t, "one")
			}
			p := startCaddy(t, overGRPC("", one))
			cc := p.dialGRPC()
			ctx := metadata.AppendToOutgoingContext(t.Context(), "caller", "a test")
			var header, trailer metadata.MD
			if got, err := unary(ctx, cc, "hi", grpc.Header(&header), grpc.Trailer(&trailer)); err != nil || got != "one: hi" {
				t.Fatalf("unary: %q, %v", got, err)
			}
			if fmt.Sprint(header["asked-by"], trailer["served-by"], trailer["blob-bin"]) != "[a test] [one] [\x00\x01]" {
				t.Errorf("header %v, trailer %v", header, trailer)
			}
			both := stream(ctx, t, cc, "Both", true, true)
			for i := range 3 {
				if err := both.SendMsg(wrapperspb.String(fmt.Sprint(i))); err != nil {
					t.Fatal(err)
				}
				m := new(wrapperspb.StringValue)
				if err := both.RecvMsg(m); err != nil || m.Value != fmt.Sprint("one: ", i) {
					t.Fatalf("both ways: %q, %v", m.Value, err)
				}
			}
			both.CloseSend()
			if err := both.RecvMsg(new(wrapperspb.StringValue)); err != io.EOF || both.Trailer()["served-by"][0] != "one" {
				t.Errorf("the end of both: %v, %v", err, both.Trailer())
			}
			one.behave(func(s grpc.ServerStream) error { // answers with the number of messages
				n := 0
				for m := new(wrapperspb.StringValue); s.RecvMsg(m) == nil; n++ {
				}
				return s.SendMsg(wrapperspb.String(fmt.Sprint(n)))
			})
			up := stream(ctx, t, cc, "Up", true, false)
			for range 5 {
				if err := up.SendMsg(wrapperspb.String("part")); err != nil {
					t.Fatal(err)
				}
			}
			up.CloseSend()
			m := new(wrapperspb.StringValue)
			if err := up.RecvMsg(m); err != nil || m.Value != "5" {
				t.Errorf("up: %q, %v", m.Value, err)
			}
			one.behave(func(s grpc.ServerStream) error {
				for range 5 {
					if err := s.SendMsg(wrapperspb.String("part")); err != nil {
						return err
					}
				}
				return grpcstatus.Error(codes.NotFound, "no more")
			})
			down := stream(ctx, t, cc, "Down", false, true)
			if err := errors.Join(down.SendMsg(wrapperspb.String("go")), down.CloseSend()); err != nil {
				t.Fatal(err)
			}
			n := 0
			err := error(nil)
			for ; err == nil; n++ {
				err = down.RecvMsg(new(wrapperspb.StringValue))
			}
			if n != 6 || grpcstatus.Code(err) != codes.NotFound || grpcstatus.Convert(err).Message() != "no more" {
				t.Errorf("down: %d messages, %v", n-1, err)
			}
			p.quiet()
			if one := p.one("one"); one.Failures != 0 || one.Successes != 4 {
				t.Errorf("totals: %+v", one.totals)
			}
		})
	}
}

// TestGRPCMovesOn checks for each gRPC status, with several options, whether a call moves on.
func TestGRPCMovesOn(t *testing.T) {
	for name, test := range map[string]struct {
		options, each string
		behave        func(grpc.ServerStream) error
		want          codes.Code // of the call; OK: two answers
		reason        string
	}{
		"UNAVAILABLE":                        {"retry {\n\t\tmethods any\n\t}", "", ends(codes.Unavailable), codes.OK, "status"},
		"INTERNAL":                           {"retry {\n\t\tmethods any\n\t}", "", ends(codes.Internal), codes.OK, "status"},
		"DEADLINE_EXCEEDED":                  {"retry {\n\t\tmethods any\n\t}", "", ends(codes.DeadlineExceeded), codes.OK, "status"},
		"may have been processed":            {"", "", ends(codes.Unavailable), codes.Unavailable, ""},
		"after a header":                     {"commit first_byte\n\tretry {\n\t\tmethods any\n\t}", "", failingLate(codes.Unavailable), codes.OK, "status"},
		"after a header, complete":           {"commit complete\n\tretry {\n\t\tmethods any\n\t}", "", failingLate(codes.Unavailable), codes.OK, "status"},
		"after a header that the client has": {"retry {\n\t\tmethods any\n\t}", "", failingLate(codes.Unavailable), codes.Unavailable, ""},
		"UNIMPLEMENTED":                      {"", "", ends(codes.Unimplemented), codes.OK, "next_on"},
		"UNIMPLEMENTED after a header":       {"commit first_byte", "", failingLate(codes.Unimplemented), codes.OK, "next_on"},
		"RESOURCE_EXHAUSTED":                 {"", "header Authorization \"Bearer ours\"", ends(codes.ResourceExhausted), codes.OK, "rate_limited"},
		"UNAUTHENTICATED":                    {"", "header Authorization \"Bearer ours\"", ends(codes.Unauthenticated), codes.OK, "denied"},
		"PERMISSION_DENIED":                  {"", "header Authorization \"Bearer ours\"", ends(codes.PermissionDenied), codes.OK, "denied"},
		"api grpc, RESOURCE_EXHAUSTED":       {"api grpc", "key ours", ends(codes.ResourceExhausted), codes.OK, "rate_limited"},
		"api grpc, UNAUTHENTICATED":          {"api grpc", "key ours", ends(codes.Unauthenticated), codes.OK, "denied"},
		"api grpc, may have been processed":  {"api grpc", "key ours", ends(codes.Unavailable), codes.Unavailable, ""},
		"api grpc, methods any":              {"api grpc\n\tretry {\n\t\tmethods any\n\t}", "key ours", ends(codes.Unavailable), codes.OK, "status"},
		"RESOURCE_EXHAUSTED of the client":   {"", "", ends(codes.ResourceExhausted), codes.ResourceExhausted, ""},
		"UNAUTHENTICATED of the client":      {"", "", ends(codes.Unauthenticated), codes.Unauthenticated, ""},
		"NOT_FOUND":                          {"retry {\n\t\tmethods any\n\t}", "", ends(codes.NotFound), codes.NotFound, ""},
		"ABORTED":                            {"retry {\n\t\tmethods any\n\t}", "", ends(codes.Aborted), codes.Aborted, ""},
		"UNKNOWN":                            {"retry {\n\t\tmethods any\n\t}", "", ends(codes.Unknown), codes.Unknown, ""},
	} {
		t.Run(name, func(t *testing.T) {
			one, two := newGRPC(t, "one"), newGRPC(t, "two")
			one.behave(test.behave)
			p := startCaddy(t, overKeyedGRPC(test.options, test.each, one, two))
			before := p.newestEvent()
			cc := p.dialGRPC()
			got, err := unary(t.Context(), cc, "hi")
			if grpcstatus.Code(err) != test.want || err == nil && got != "two: hi" {
				t.Fatalf("got %q (%v), want %v", got, err, test.want)
			}
			if err != nil && grpcstatus.Convert(err).Message() != "as the test wants" {
				t.Errorf("the client gets the message %q", grpcstatus.Convert(err).Message())
			}
			p.quiet()
			reason := ""
			for _, e := range p.events(before) {
				if e.Kind == "failover" {
					reason = e.Reason
				}
			}
			if reason != test.reason {
				t.Errorf("moved on because of %q, want %q", reason, test.reason)
			}
			failed := test.want == codes.Unavailable || test.reason != "" && test.reason != "next_on"
			if failures := p.one("one").Failures; failed != (failures == 1) || failures > 1 {
				t.Errorf("%d failures", failures)
			}
		})
	}
}

// TestGRPCWithoutAServer checks that calls move on from a server that sends GOAWAY and from one that is gone.
func TestGRPCWithoutAServer(t *testing.T) {
	one, two := newGRPC(t, "one"), newGRPC(t, "two")
	p := startCaddy(t, overGRPC("", one, two))
	cc := p.dialGRPC()
	wantUnary(t, cc, "one")
	one.server.GracefulStop() // sends GOAWAY
	wantUnary(t, cc, "two")
	startGRPC(t, one, one.address)
	p.back("api", "one")
	eventually(t, "one answers again", func() bool {
		got, err := unary(t.Context(), cc, "hi")
		if err != nil {
			t.Fatal(err)
		}
		return got == "one: hi"
	})
	one.server.Stop()
	// a call whose connection breaks may have been processed, so it is not retried
	eventually(t, "two answers", func() bool {
		got, err := unary(t.Context(), cc, "hi")
		return err == nil && got == "two: hi"
	})
}

// TestGRPCInTrailers checks that failures in trailers open the breaker, and that it closes when calls succeed.
func TestGRPCInTrailers(t *testing.T) {
	for name, behave := range map[string]func(grpc.ServerStream) error{
		"after a header": failingLate(codes.Unavailable),
		"after messages": func(s grpc.ServerStream) error {
			return cmp.Or(s.SendMsg(wrapperspb.String("one: hi")), grpcstatus.Error(codes.Unavailable, "gone"))
		},
	} {
		apart(t, name, func(t *testing.T) {
			one, two := newGRPC(t, "one"), newGRPC(t, "two")
			one.behave(behave)
			p := startCaddy(t, overGRPC("breaker {\n\t\topen_for 200ms\n\t\tstep 50ms\n\t}", one, two))
			cc := p.dialGRPC()
			for range 5 {
				if _, err := unary(t.Context(), cc, "hi"); grpcstatus.Code(err) != codes.Unavailable {
					t.Fatalf("got %v", err)
				}
			}
			p.becomes("one", "open")
			if what := p.one("one").LastFailure; what == nil || what.What != "gRPC UNAVAILABLE" {
				t.Errorf("the failure is %+v", what)
			}
			one.behave(one.echo)
			eventually(t, "one is back", func() bool {
				if _, err := unary(t.Context(), cc, "hi"); err != nil {
					t.Fatal(err)
				}
				return p.one("one").State == "closed"
			})
		})
	}
}

// TestGRPCHolds checks that a server gets no calls for as long as its pushback asks.
func TestGRPCHolds(t *testing.T) {
	detailed, err := grpcstatus.New(codes.ResourceExhausted, "busy").WithDetails(durationpb.New(time.Minute)) // not a RetryInfo, so it has no effect
	if err != nil {
		t.Fatal(err)
	}
	for name, behave := range map[string]func(grpc.ServerStream) error{
		"trailers alone": func(s grpc.ServerStream) error {
			s.SetTrailer(metadata.Pairs("grpc-retry-pushback-ms", "60000"))
			return detailed.Err()
		},
		"after a message": func(s grpc.ServerStream) error {
			s.SetTrailer(metadata.Pairs("grpc-retry-pushback-ms", "60000"))
			return cmp.Or(s.SendMsg(wrapperspb.String("one: hi")), detailed.Err())
		},
	} {
		t.Run(name, func(t *testing.T) {
			one, two := newGRPC(t, "one"), newGRPC(t, "two")
			one.behave(behave)
			p := startCaddy(t, overKeyedGRPC("", "header Authorization \"Bearer ours\"", one, two))
			cc := p.dialGRPC()
			_, _ = unary(t.Context(), cc, "hi")
			p.quiet()
			until := p.one("one").HeldUntil
			if left := time.Until(until); left < 30*time.Second || left > time.Minute {
				t.Errorf("held for %v", left)
			}
			wantUnary(t, cc, "two")
		})
	}
}

// TestGRPCDeadlines checks that a server gets the client's deadline, and is blamed neither when it passes nor when the
// client leaves.
func TestGRPCDeadlines(t *testing.T) {
	one := newGRPC(t, "one")
	left := make(chan time.Duration, 20)
	one.behave(func(s grpc.ServerStream) error {
		if at, ok := s.Context().Deadline(); ok {
			left <- time.Until(at)
		} else {
			left <- 0
		}
		<-s.Context().Done()
		return grpcstatus.FromContextError(s.Context().Err()).Err()
	})
	p := startCaddy(t, overGRPC("breaker {\n\t\tconsecutive_failures 2\n\t}", one))
	cc := p.dialGRPC()
	for range 6 {
		ctx, cancel := context.WithCancel(t.Context())
		s := stream(ctx, t, cc, "Down", false, true)
		if err := errors.Join(s.SendMsg(wrapperspb.String("go")), s.CloseSend()); err != nil {
			t.Fatal(err)
		}
		receive(t, "a call", left)
		cancel()
		if err := s.RecvMsg(new(wrapperspb.StringValue)); grpcstatus.Code(err) != codes.Canceled {
			t.Errorf("got %v", err)
		}
	}
	const deadline = 800 * time.Millisecond // by then the server must have the call; clients that leave after a second are a sign of slowness
	for range 6 {
		ctx, cancel := context.WithTimeout(t.Context(), deadline)
		if _, err := unary(ctx, cc, "hi"); grpcstatus.Code(err) != codes.DeadlineExceeded {
			t.Errorf("got %v", err)
		}
		if l := receive(t, "a deadline", left); l <= 0 || l > deadline {
			t.Errorf("the server has %v left", l)
		}
		cancel()
	}
	p.quiet()
	if one := p.one("one"); one.State != "closed" || one.Failures != 0 {
		t.Errorf("one is %s, with %d failures", one.State, one.Failures)
	}
}

// TestSilentStreamsOfGRPCAreNotSlow checks that streams whose headers come late do not make an endpoint count as slow
// if it answers others at once.
func TestSilentStreamsOfGRPCAreNotSlow(t *testing.T) {
	one, two := newGRPC(t, "one"), newGRPC(t, "two")
	p := startCaddy(t, overGRPC(evenIfSlow, one, two))
	cc := p.dialGRPC()
	for range 150 { // the endpoint's usual latency becomes known
		wantUnary(t, cc, "one")
	}
	more := make(chan struct{})
	one.behave(func(s grpc.ServerStream) error {
		if err := s.RecvMsg(new(wrapperspb.StringValue)); err != nil {
			return err
		}
		select {
		case <-more:
		case <-s.Context().Done():
			return s.Context().Err()
		}
		return errors.Join(s.SendMsg(wrapperspb.String("a")), s.SendMsg(wrapperspb.String("b")))
	})
	var streams []grpc.ClientStream
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for i := range 60 {
		within := t.Context()
		if i%2 == 0 {
			within = ctx
		}
		s := stream(within, t, cc, "Watch", i%3 == 0, true)
		if err := s.SendMsg(wrapperspb.String("go")); err != nil {
			t.Fatal(err)
		}
		if i%3 != 0 {
			s.CloseSend()
		}
		streams = append(streams, s)
	}
	eventually(t, "all streams are open", func() bool { return one.hits.Load() == 150+60 })
	pause(t.Context(), 1500*time.Millisecond) // streams are silent for this time
	cancel()
	close(more)
	for i, s := range streams {
		if i%2 == 0 {
			continue
		}
		for range 2 {
			if err := s.RecvMsg(new(wrapperspb.StringValue)); err != nil {
				t.Fatal(err)
			}
		}
		s.CloseSend()
		if err := s.RecvMsg(new(wrapperspb.StringValue)); err != io.EOF {
			t.Fatal(err)
		}
	}
	p.quiet()
	if one := p.one("one"); one.State != "closed" || one.Failures != 0 || one.Traffic < 0.99 {
		t.Errorf("one is %s, has %v of the traffic, and %d failures", one.State, one.Traffic, one.Failures)
	}
	one.behave(one.echo)
	wantUnary(t, cc, "one")
}

// TestGRPCOutageThatOnlyClientsSee checks that a server that hangs until every client's deadline is found to be out.
func TestGRPCOutageThatOnlyClientsSee(t *testing.T) {
	one, two := newGRPC(t, "one"), newGRPC(t, "two")
	one.behave(func(s grpc.ServerStream) error {
		<-s.Context().Done()
		return grpcstatus.FromContextError(s.Context().Err()).Err()
	})
	p := startCaddy(t, overGRPC("", one, two))
	cc := p.dialGRPC()
	lost := 0
	eventually(t, "two answers", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 1200*time.Millisecond)
		defer cancel()
		_, err := unary(ctx, cc, "hi")
		if err != nil {
			lost++
		}
		return err == nil
	})
	if lost > 10 {
		t.Errorf("%d calls were lost", lost)
	}
}

// TestGRPCHealth checks health checks by grpc.health.v1.
func TestGRPCHealth(t *testing.T) {
	const often = "{\n\t\tinterval 50ms\n\t\tfast_interval 50ms\n\t}"
	for _, over := range []string{"h2c", "TLS"} {
		t.Run(over, func(t *testing.T) {
			one := newGRPC(t, "one")
			if over == "TLS" {
				one = newTLSGRPC(t, "one")
			}
			p := startCaddy(t, overGRPC("health grpc shop.Cart "+often, one))
			result := func(want string) {
				t.Helper()
				eventually(t, "a check says "+want, func() bool { c := p.one("one").Check; return c != nil && c.LastResult == want })
			}
			result("gRPC NOT_FOUND")
			one.health.SetServingStatus("shop.Cart", healthpb.HealthCheckResponse_SERVING)
			result("passed")
			one.health.SetServingStatus("shop.Cart", healthpb.HealthCheckResponse_NOT_SERVING)
			result("gRPC NOT_SERVING")
			p.reload(overGRPC("health grpc "+often, one))
			result("passed")
			p.reload(overKeyedGRPC("health "+often, "health grpc shop.Cart", one))
			result("gRPC NOT_SERVING")
		})
	}
}

// TestAPIOfGRPC checks that `api grpc` sends keys in metadata, and that a failing service moves only its own calls.
func TestAPIOfGRPC(t *testing.T) {
	one, two := newGRPC(t, "one"), newGRPC(t, "two")
	keys := make(chan string, 100)
	one.behave(func(s grpc.ServerStream) error {
		md, _ := metadata.FromIncomingContext(s.Context())
		keys <- strings.Join(md["authorization"], ",")
		if method, _ := grpc.MethodFromServerStream(s); strings.HasPrefix(method, "/bad.Service/") {
			return grpcstatus.Error(codes.Unavailable, "no")
		}
		return one.echo(s)
	})
	p := startCaddy(t, overKeyedGRPC("api grpc\n\tretry {\n\t\tmethods any\n\t}", "key ours", one, two))
	cc := p.dialGRPC()
	call := func(service string) string {
		t.Helper()
		answer := new(wrapperspb.StringValue)
		if err := cc.Invoke(t.Context(), "/"+service+"/Echo", wrapperspb.String("hi"), answer); err != nil {
			t.Fatal(err)
		}
		return answer.Value
	}
	for range 20 {
		if got := call("bad.Service"); got != "two: hi" {
			t.Fatalf("the service that fails: %q", got)
		}
		if got := call("good.Service"); got != "one: hi" {
			t.Fatalf("the other service: %q", got)
		}
	}
	if n := one.hits.Load(); n > 20+10 {
		t.Errorf("%d attempts at the endpoint, want at most 10 beside the 20 of the good service", n)
	}
	if key := <-keys; key != "Bearer ours" {
		t.Errorf("the key is %q", key)
	}
}
