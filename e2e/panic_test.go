package e2e

import (
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

func init() { caddy.RegisterModule(new(panicking)) }

// panicking is a transport. An attempt at 127.0.0.1 panics when rivals.answered delivers; any other gets a response.
type panicking struct{}

// rivals are the attempts that got a response. open counts the responses whose bodies are not closed.
var rivals struct {
	answered chan struct{}
	open     atomic.Int64
}

func (*panicking) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.reverse_proxy.transport.panicking", New: func() caddy.Module { return new(panicking) }}
}

func (*panicking) UnmarshalCaddyfile(*caddyfile.Dispenser) error { return nil }

func (*panicking) RoundTrip(r *http.Request) (*http.Response, error) {
	if strings.HasPrefix(r.URL.Host, "127.0.0.1") {
		<-rivals.answered
		panic(http.ErrAbortHandler)
	}
	rivals.open.Add(1)
	return &http.Response{StatusCode: 200, Header: http.Header{}, ProtoMajor: 1, ProtoMinor: 1, Body: counting{strings.NewReader("two")}, ContentLength: 3, Request: r}, nil
}

type counting struct{ io.Reader }

func (counting) Close() error {
	rivals.open.Add(-1)
	return nil
}

// TestAPanicLeavesNoRival checks that the response of a hedge is closed if the first attempt's transport panics.
func TestAPanicLeavesNoRival(t *testing.T) {
	rivals.answered = make(chan struct{})
	p := startCaddy(t, "failover {\n\tname api\n\tretry {\n\t\tmethods any\n\t\thedge 20ms max 100%\n\t}\n\tendpoint http://127.0.0.1:1 {\n\t\tname one\n\t}\n\tendpoint http://two.test {\n\t\tname two\n\t}\n\ttransport panicking\n}")
	for i := range 3 {
		conn, answer := p.raw("POST / HTTP/1.1\nHost: api.test\nContent-Length: 0")
		eventually(t, "the hedge has a response", func() bool { return rivals.open.Load() == 1 })
		rivals.answered <- struct{}{}
		if _, err := answer.ReadByte(); err != io.EOF {
			t.Errorf("call %d ends with %v", i, err)
		}
		conn.Close()
		eventually(t, "the hedge's body is closed", func() bool { return rivals.open.Load() == 0 })
	}
	p.quiet()
}
