package e2e

import (
	"crypto/tls"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/net/http2"
)

// draining is an HTTP/2 endpoint over TLS that accepts connections and processes nothing: it refuses each stream, or
// says that the connection is going away. After a number of streams it answers 200.
func draining(t *testing.T, like *api, goAway bool, streams int64) *api {
	var refused atomic.Int64
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: like.server.TLS.Certificates, NextProtos: []string{http2.NextProtoTLS}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	serve := func(conn net.Conn) {
		defer conn.Close()
		if _, err := io.ReadFull(conn, make([]byte, len(http2.ClientPreface))); err != nil {
			return
		}
		f := http2.NewFramer(conn, conn)
		err := f.WriteSettings()
		for err == nil {
			var frame http2.Frame
			if frame, err = f.ReadFrame(); err != nil {
				return
			}
			switch headers, ok := frame.(*http2.HeadersFrame); {
			case ok && refused.Add(1) > streams:
				const status200 = 0x88
				err = f.WriteHeaders(http2.HeadersFrameParam{StreamID: headers.StreamID, BlockFragment: []byte{status200}, EndHeaders: true, EndStream: true})
			case ok && goAway:
				err = f.WriteGoAway(0, http2.ErrCodeNo, nil) // and reads on: a close may overtake it
			case ok:
				err = f.WriteRSTStream(headers.StreamID, http2.ErrCodeRefusedStream)
			}
		}
	}
	go func() {
		for conn, err := l.Accept(); err == nil; conn, err = l.Accept() {
			go serve(conn)
		}
	}()
	return &api{name: "one", address: l.Addr().String(), tls: true}
}

// TestAnEndpointThatOnlyDrainsIsLeft checks that a call leaves an HTTP/2 endpoint that processes nothing long before
// its timeout, although the transport would send the request again and again, and that the request does not count in its limit.
// Any request may leave it: nothing has acted on it.
func TestAnEndpointThatOnlyDrainsIsLeft(t *testing.T) {
	for name, goAway := range map[string]bool{"GOAWAY": true, "REFUSED_STREAM": false} {
		t.Run(name, func(t *testing.T) {
			two := newTLSAPI(t, "two")
			one := draining(t, two, goAway, math.MaxInt64)
			p := startCaddy(t, edited("api", "timeout 1h\ntransport http {\ntls_trust_pool file "+two.certificate(t)+"\n}", []*api{one, two}, "limit 5 requests per 1h burst 5"))
			resp, err := p.do(http.MethodPost, "/", strings.NewReader("x"))
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if body, _ := io.ReadAll(resp.Body); string(body) != "two"+digest("x") {
				t.Errorf("the client gets %d %q", resp.StatusCode, body)
			}
			p.quiet()
			p.wantTotals("one", totals{Attempts: 1, Failures: 1})
			if text := p.readText("/failover/pools/api"); !strings.Contains(text, `"left":5`) {
				t.Errorf("the request counts in the limit: %s", text)
			}
		})
	}
}

// TestAnEndpointThatRefusesForAMoment checks that a request stays with the only endpoint, and does not count against it,
// if it is answered after several refusals: also if it may make no attempt more, or its method allows none.
func TestAnEndpointThatRefusesForAMoment(t *testing.T) {
	const quick = "breaker {\nconsecutive_failures 1\n}\n"
	for _, test := range []struct {
		options string
		refused int64
		want    totals // zero: any, with one success
	}{
		{quick, 3, totals{Attempts: 2, Successes: 1, Failures: 1}},
		{quick + "retry off", 3, totals{Attempts: 1, Successes: 1}},
		{quick + "retry {\nbudget 0 0\n}", 6, totals{Attempts: 1, Successes: 1}},
		{quick + "retry {\nattempts 2\n}", 6, totals{Attempts: 2, Successes: 1, Failures: 1}},
		{"all_down wait 1h\nbreaker off", 30, totals{}},
	} {
		t.Run(test.options, func(t *testing.T) {
			like := newTLSAPI(t, "two")
			one := draining(t, like, true, test.refused)
			p := startCaddy(t, site(test.options+"\ntransport http {\ntls_trust_pool file "+like.certificate(t)+"\n}", one))
			p.call("POST", "/", "x").want(t, "POST", 200, "")
			if test.want != (totals{}) {
				p.wantTotals("one", test.want)
			}
			p.wantState("one", "closed")
		})
	}
}

// TestABurstAtAnEndpointOfFewStreams sends many requests at once to the only endpoint, which takes few at a time on a
// connection and refuses the others. None may be lost, and the endpoint is not at fault, although the budget of retries is used up.
func TestABurstAtAnEndpointOfFewStreams(t *testing.T) {
	one := &api{name: "one", tls: true}
	server := httptest.NewUnstartedServer(http.HandlerFunc(one.fine))
	server.EnableHTTP2 = true
	server.Config.HTTP2 = &http.HTTP2Config{MaxConcurrentStreams: 2}
	server.StartTLS()
	t.Cleanup(server.Close)
	one.address = server.Listener.Addr().String()
	p := startCaddy(t, site("timeout 1h\nretry {\nbudget 0 0\n}\ntransport http {\ntls_insecure_skip_verify\n}", one))
	if lost := p.lost(50, func() bool { return p.call("POST", "/", "x").status == 200 }); lost > 0 {
		t.Errorf("%d are lost", lost)
	}
	p.wantState("one", "closed")
}
