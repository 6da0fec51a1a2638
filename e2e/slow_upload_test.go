package e2e

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// taking reads a request's body at a constant rate, part bytes each pause, and answers with its length. If stop is not
// 0, it reads no more after stop bytes. It returns when end is closed.
func taking(part int, pause time.Duration, stop int, end <-chan struct{}) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ticker := time.NewTicker(pause)
		defer ticker.Stop()
		total := 0
		for {
			n, err := io.CopyN(io.Discard, r.Body, int64(part))
			if total += int(n); err != nil {
				break
			}
			if stop > 0 && total >= stop {
				<-end
				return
			}
			select {
			case <-ticker.C:
			case <-end:
				return
			}
		}
		fmt.Fprint(w, total)
	}
}

// uploadTo returns a pool with one endpoint, which runs serve and gets its requests by the protocol.
func uploadTo(t *testing.T, protocol, options string, serve http.HandlerFunc) string {
	t.Helper()
	one := httptest.NewUnstartedServer(serve)
	one.EnableHTTP2 = true
	one.Config.ErrorLog = log.New(io.Discard, "", 0)
	one.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		if over, ok := c.(*tls.Conn); ok {
			c = over.NetConn()
		}
		_ = c.(*net.TCPConn).SetReadBuffer(256 << 10) // what its system has taken, the endpoint soon has
		return ctx
	}
	scheme, transport := "https", "versions "+protocol+"\n\t\ttls_insecure_skip_verify"
	if protocol == "h2c" || protocol == "1.1 plain" {
		one.Config.Protocols = new(http.Protocols)
		one.Config.Protocols.SetHTTP1(true)
		one.Config.Protocols.SetUnencryptedHTTP2(true)
		scheme, transport = "http", "versions "+strings.TrimSuffix(protocol, " plain")
		one.Start()
	} else {
		one.StartTLS()
	}
	t.Cleanup(one.Close)
	return fmt.Sprintf("failover {\n\tname api\n\tretry {\n\t\tbuffer 32MiB\n\t}\n\t%s\n\tendpoint %s://%s {\n\t\tname one\n\t\tmax_requests 10\n\t}\n\ttransport http {\n\t\t%s\n\t}\n}",
		options, scheme, one.Listener.Addr(), transport)
}

// TestTimeoutCountsFromTheLastByteOfTheUpload checks that an endpoint that reads an upload slowly reaches its timeout
// only after it has stopped reading.
func TestTimeoutCountsFromTheLastByteOfTheUpload(t *testing.T) {
	upload := randomBody(8 << 20)
	for _, protocol := range []string{"1.1 plain", "1.1", "2", "h2c"} {
		for name, test := range map[string]struct {
			options, method string
			body            func() io.Reader
		}{
			"recorded":     {"timeout 2s", "PUT", func() io.Reader { return strings.NewReader(upload) }},
			"chunked":      {"timeout 2s", "PUT", func() io.Reader { return unknownLength(upload) }},
			"not recorded": {"timeout 2s", "POST", func() io.Reader { return strings.NewReader(upload) }},
		} {
			if name != "recorded" && (protocol == "1.1" || protocol == "h2c") {
				continue // the other protocols cover these
			}
			apart(t, protocol+", "+name, func(t *testing.T) {
				end := make(chan struct{})
				p := startCaddy(t, uploadTo(t, protocol, test.options, taking(256<<10, 120*time.Millisecond, 0, end)))
				defer close(end)
				p.callWith(test.method, "/", test.body()).want(t, "the upload", 200, fmt.Sprint(len(upload)))
				if got := p.one("one"); got.Failures != 0 || got.State != "closed" {
					t.Errorf("%d failures, %s", got.Failures, got.State)
				}
			})
		}
		apart(t, protocol+", stops", func(t *testing.T) {
			end := make(chan struct{})
			p := startCaddy(t, uploadTo(t, protocol, "timeout 1s", taking(256<<10, 120*time.Millisecond, 4<<20, end)))
			defer close(end)
			began := time.Now()
			if got := p.sending("PUT", upload, true); got.status != http.StatusGatewayTimeout {
				t.Errorf("the upload got %+v", got)
			}
			// the endpoint reads 4 MiB in 1.8 s, and then the timeout counts
			if took := time.Since(began); took < 2*time.Second {
				t.Errorf("the upload ended after %v", took)
			}
			if got := p.one("one").lastOutcome(); got != "timeout" {
				t.Errorf("the failure is %s", got)
			}
		})
	}
}
