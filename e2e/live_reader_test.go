package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
)

// TestBytesBelongToTheLiveReader checks that the attempt that goes on gets the whole body, although a failed attempt may
// still be reading from the client: also after the response has begun, and beyond the buffer for retries.
func TestBytesBelongToTheLiveReader(t *testing.T) {
	for _, upstream := range []string{"1.1", "h2c"} {
		for _, client := range []string{"HTTP/1.1", "h2c"} {
			for _, buffer := range []string{"1MiB", "70KiB"} {
				t.Run(fmt.Sprintf("endpoints %s, client %s, buffer %s", upstream, client, buffer), func(t *testing.T) {
					serve := func(h http.HandlerFunc) string {
						s := httptest.NewUnstartedServer(h)
						s.Config.Protocols = new(http.Protocols)
						s.Config.Protocols.SetHTTP1(true)
						s.Config.Protocols.SetUnencryptedHTTP2(true)
						s.Start()
						t.Cleanup(s.Close)
						return s.Listener.Addr().String()
					}
					const part = 50_000
					one := serve(func(w http.ResponseWriter, r *http.Request) {
						_ = http.NewResponseController(w).EnableFullDuplex()
						_, _ = io.CopyN(io.Discard, r.Body, part)
						w.WriteHeader(http.StatusServiceUnavailable)
					})
					got := make(chan string, 1)
					two := serve(func(w http.ResponseWriter, r *http.Request) {
						_ = http.NewResponseController(w).EnableFullDuplex()
						first := make([]byte, part)
						n, _ := io.ReadFull(r.Body, first)
						flush(w)
						rest, err := io.ReadAll(r.Body)
						got <- digest(string(first[:n])+string(rest)) + fmt.Sprint(err)
						fmt.Fprint(w, n+len(rest))
					})
					p := startCaddy(t, fmt.Sprintf("failover {\n\tname api\n\tbreaker off\n\tretry {\n\t\tmethods any\n\t\tbuffer %s\n\t}\n\tendpoint http://%s {\n\t\tname one\n\t}\n\tendpoint http://%s {\n\t\tname two\n\t}\n\ttransport http {\n\t\tversions %s\n\t}\n}", buffer, one, two, upstream))
					transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
						return new(net.Dialer).DialContext(ctx, "unix", p.file("site"))
					}, Protocols: new(http.Protocols)}
					defer transport.CloseIdleConnections()
					transport.Protocols.SetHTTP1(client == "HTTP/1.1")
					transport.Protocols.SetUnencryptedHTTP2(client == "h2c")
					for i := range 4 {
						ctx, cancel := context.WithTimeout(t.Context(), patience)
						body, to := io.Pipe()
						r, err := http.NewRequestWithContext(ctx, "POST", "http://api.test/", body)
						if err != nil {
							t.Fatal(err)
						}
						all := randomBody(6 * part)
						go func() { _, _ = io.WriteString(to, all[:part]) }()
						resp, err := transport.RoundTrip(r)
						if err != nil || resp.StatusCode != 200 {
							t.Fatalf("round %d: %v, %v", i, resp, err)
						}
						for at := part; at < len(all); at += part {
							if _, err := io.WriteString(to, all[at:at+part]); err != nil {
								t.Fatal(err)
							}
						}
						to.Close()
						if got := receive(t, "the body at the endpoint", got); got != digest(all)+"<nil>" {
							t.Errorf("round %d: the endpoint got %s, want %s", i, got, digest(all))
						}
						text, err := bufio.NewReader(resp.Body).ReadString(0)
						resp.Body.Close()
						if text != fmt.Sprint(len(all)) || err != io.EOF {
							t.Errorf("round %d: the answer is %q, %v", i, text, err)
						}
						cancel()
					}
					p.quiet()
					if s := p.one("two"); s.Failures != 0 || s.Cancelled != 0 {
						t.Errorf("endpoint two has %d failures, %d cancelled", s.Failures, s.Cancelled)
					}
				})
			}
		}
	}
}
