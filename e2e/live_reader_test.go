package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"
)

// TestBytesBelongToTheLiveReader checks that the attempt that goes on gets the whole body, although a failed attempt may
// still be reading from the client: also after the response has begun, and beyond the buffer for retries.
func TestBytesBelongToTheLiveReader(t *testing.T) {
	for _, upstream := range []string{"1.1", "h2c"} {
		for _, client := range []string{"HTTP/1.1", "h2c"} {
			for _, buffer := range []string{"1MiB", "70KiB"} {
				t.Run(fmt.Sprintf("endpoints %s, client %s, buffer %s", upstream, client, buffer), func(t *testing.T) {
					const part = 50_000
					one, two := newAPI(t, "one"), newAPI(t, "two")
					one.behave(func(w http.ResponseWriter, r *http.Request) {
						_ = http.NewResponseController(w).EnableFullDuplex()
						_, _ = io.CopyN(io.Discard, r.Body, part)
						w.WriteHeader(http.StatusServiceUnavailable)
					})
					got := make(chan string, 1)
					two.behave(func(w http.ResponseWriter, r *http.Request) {
						_ = http.NewResponseController(w).EnableFullDuplex()
						first := make([]byte, part)
						n, _ := io.ReadFull(r.Body, first)
						flush(w)
						rest, err := io.ReadAll(r.Body)
						got <- digest(string(first[:n])+string(rest)) + fmt.Sprint(err)
						fmt.Fprint(w, n+len(rest))
					})
					p := startCaddy(t, site(fmt.Sprintf("breaker off\nretry {\nmethods any\nbuffer %s\n}\ntransport http {\nversions %s\n}", buffer, upstream), one, two))
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

// TestAFailoverLeavesTheClientItsTime checks that a client that pauses in the middle of its upload can send the rest
// after the first endpoint has failed. Only the end of the response that it gets bounds that.
func TestAFailoverLeavesTheClientItsTime(t *testing.T) {
	const part = 50_000
	says := func(status int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			fmt.Fprint(w, body)
		}
	}
	for name, c := range map[string]struct {
		fails   http.HandlerFunc
		options string
	}{
		"503":                         {says(503, ""), ""},
		"503 with a body":             {says(503, randomBody(part)), "commit first_byte"},
		"503, commit complete":        {says(503, "no"), "commit complete"},
		"cut":                         {cut, ""},
		"next_on":                     {says(404, "no such model"), "next_on 404"},
		"an error in a 200":           {says(200, "overloaded_error"), "next_on 200 overloaded_error"},
		"lb_retry_match":              {says(404, "no"), "lb_retry_match {\nexpression `{http.reverse_proxy.status_code} == 404`\n}"},
		"lb_retry_match with a pause": {says(404, "no"), "lb_retries 1\nlb_try_interval 500ms\nlb_retry_match {\nexpression `{http.reverse_proxy.status_code} == 404`\n}"},
	} {
		for _, upstream := range []string{"1.1", "h2c"} {
			apart(t, name+", endpoints "+upstream, func(t *testing.T) {
				one, two := newAPI(t, "one"), newAPI(t, "two")
				failed := make(chan bool, 1)
				one.behave(func(w http.ResponseWriter, r *http.Request) {
					_ = http.NewResponseController(w).EnableFullDuplex()
					_, _ = io.CopyN(io.Discard, r.Body, part)
					failed <- true
					c.fails(w, r)
				})
				p := startCaddy(t, site(fmt.Sprintf("%s\nbreaker off\nretry {\nmethods any\n}\ntransport http {\nversions %s\n}", c.options, upstream), one, two))
				upload := randomBody(3 * part)
				body, to := io.Pipe()
				r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://api.test/", body)
				if err != nil {
					t.Fatal(err)
				}
				go func() {
					_, _ = io.WriteString(to, upload[:part])
					receive(t, "a failure", failed)
					pause(t.Context(), time.Second)
					_, _ = io.WriteString(to, upload[part:])
					to.Close()
				}()
				resp, err := p.client.Do(r)
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				text, err := io.ReadAll(resp.Body)
				if want := "two" + digest(upload); resp.StatusCode != http.StatusOK || string(text) != want || err != nil {
					t.Errorf("status %d, %q, %v; want %q", resp.StatusCode, text, err, want)
				}
			})
		}
	}
}
