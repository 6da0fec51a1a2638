package e2e

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
)

// TestResponsesThatNoClientCanGet checks that such a response is a failure, after which a request moves on.
func TestResponsesThatNoClientCanGet(t *testing.T) {
	for name, test := range map[string]struct {
		head string
		want int // 0: no client can get it
	}{
		"101 unasked":  {"101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: other", 0},
		"101 bare":     {"101 Switching Protocols", 0},
		"099":          {"099 Odd\r\nContent-Length: 0", 0},
		"000":          {"000 Odd\r\nContent-Length: 0", 0},
		"two lengths":  {"200 OK\r\nContent-Length: 1\r\nContent-Length: 2", 0},
		"large header": {"200 OK\r\nX-Large: " + strings.Repeat("x", 20_000), 0},
		"999":          {"999 Denied\r\nContent-Length: 0", 999},
		"204 and body": {"204 No Content\r\nContent-Length: 5\r\n\r\nhello", 204},
	} {
		t.Run(name, func(t *testing.T) {
			one := &api{name: "one", address: listening(t, func(conn net.Conn) {
				if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
					fmt.Fprint(conn, "HTTP/1.1 "+test.head+"\r\n\r\n")
				}
			})}
			const options = "transport http {\n\t\tmax_response_header 10KB\n\t}"
			p := startCaddy(t, at("/alone", pooled("alone", options, one))+"\n"+site(options, one, newAPI(t, "two")))
			got, alone := p.get(), p.call("POST", "/alone", "x")
			if test.want == 0 {
				got.want(t, "GET", 200, "two")
				alone.want(t, "POST", http.StatusBadGateway, "")
				p.wantTotals("one", totals{Attempts: 1, Failures: 1})
			} else if got.status != test.want || alone.status != test.want || p.one("one").Failures != 0 {
				t.Errorf("GET %+v, POST %+v, %d failures", got, alone, p.one("one").Failures)
			}
		})
	}
}

// TestAnOversizedHeaderEndsItsOwnRequest checks that the other requests on an HTTP/2 connection lose nothing when the
// header of a response exceeds max_response_header.
func TestAnOversizedHeaderEndsItsOwnRequest(t *testing.T) {
	const others = 10
	for name, transport := range map[string]string{"TLS": "tls_insecure_skip_verify", "h2c": "versions h2c"} {
		for _, size := range []int{12_000, 1 << 20} {
			t.Run(fmt.Sprintf("%s, %d bytes", name, size), func(t *testing.T) {
				start := newTLSAPI
				if name == "h2c" {
					start = newAPI
				}
				answer := make(chan struct{})
				var there atomic.Int64
				var apis []*api
				for _, name := range []string{"one", "two"} {
					a := start(t, name)
					a.behave(func(w http.ResponseWriter, r *http.Request) {
						if r.URL.Path == "/large" {
							w.Header().Set("X-Large", strings.Repeat("x", size))
							return
						}
						there.Add(1)
						select {
						case <-answer:
							a.fine(w, r)
						case <-r.Context().Done():
						}
					})
					apis = append(apis, a)
				}
				p := startCaddy(t, site("transport http {\n\t\tmax_response_header 10KB\n\t\t"+transport+"\n\t}", apis...))
				var waiting []<-chan string
				for range others {
					waiting = append(waiting, p.waiting("POST", "/"))
				}
				eventually(t, "all are there", func() bool { return there.Load() == others })
				if got := p.call("GET", "/large", ""); got.status != http.StatusBadGateway {
					t.Errorf("the oversized header: status %d", got.status)
				}
				close(answer)
				for _, w := range waiting {
					if got := receive(t, "an answer", w); got != "200 one" {
						t.Errorf("beside it: %s", got)
					}
				}
				p.quiet()
				p.wantState("one", "closed")
				if one, two := p.one("one"), p.one("two"); one.Attempts != others+1 || two.Attempts != 1 {
					t.Errorf("%d and %d attempts", one.Attempts, two.Attempts)
				}
			})
		}
	}
}
