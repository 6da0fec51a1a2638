package e2e

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// readsAndCuts reads part of a request's body and closes the connection.
func readsAndCuts(n int64) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.CopyN(io.Discard, r.Body, n)
		cut(w, r)
	}
}

// TestErrorRoutesGetTheBody checks that the error route of a failed call gets the whole body, over HTTP/1 and
// HTTP/2, with a declared length and without; or an error if the body was sent and not kept.
func TestErrorRoutesGetTheBody(t *testing.T) {
	large, huge := randomBody(300<<10), randomBody(3<<20)
	for _, test := range []struct {
		name    string
		options string
		one     http.HandlerFunc // nil: it is down
		method  string
		body    string
		status  int
	}{
		{"no connection", "", nil, "POST", "hello", 200},
		{"no connection, large", "", nil, "POST", large, 200},
		{"no connection, larger than is kept", "", nil, "POST", huge, 200},
		{"an answer that breaks", "", readsAndCuts(1 << 20), "PUT", "hello", 200},
		{"read in part", "", readsAndCuts(100 << 10), "PUT", large, 200},
		{"read whole", "", readsAndCuts(1 << 30), "PUT", large, 200},
		{"read whole, and not to be sent again", "", readsAndCuts(1 << 30), "POST", "hello", 200},
		{"read, and not kept", "", readsAndCuts(2 << 20), "PUT", huge, 502},
		{"read, and not kept, as it may not be sent again", "", readsAndCuts(1 << 30), "POST", large, 502},
		{"edited", "failover_on_edits", nil, "POST", `{"model":"mine"}`, 200},
	} {
		for _, inner := range []string{"reverse_proxy %s", "failover {\n\t\tname inner\n\t\tendpoint http://%s\n\t}", "failover {\n\t\tname inner\n\t\tendpoint http://127.0.0.1:1\n\t\tendpoint http://%s\n\t}"} {
			for _, h2 := range []bool{false, true} {
				for i, body := range bothWays(test.body) {
					t.Run(fmt.Sprintf("%s/%.20s/h2=%t/%d", test.name, strings.ReplaceAll(inner, "\n", ""), h2, i), func(t *testing.T) {
						one, two := newAPI(t, "one"), newAPI(t, "two")
						if test.one == nil {
							one.down()
						} else {
							one.behave(test.one)
						}
						options := ""
						if test.options != "" {
							options = "\n\t\tset_json model ours"
						}
						p := startCaddy(t, fmt.Sprintf("failover {\n\tname outer\n\tendpoint http://%s {\n\t\tname one%s\n\t}\n}\nhandle_errors {\n\t%s\n}",
							one.address, options, fmt.Sprintf(inner, two.address)))
						if h2 {
							p.client = clientOf(p.file("site"), true)
							transport := p.client.Transport.(*http.Transport)
							transport.Protocols = new(http.Protocols)
							transport.Protocols.SetUnencryptedHTTP2(true)
						}
						got := p.callWith(test.method, "/", body)
						if i == 1 && got.status == 502 && test.method == "POST" && test.one != nil {
							return // nothing is kept of what may not be sent again and came in several parts
						}
						if got.status != test.status || test.status == 200 && got.body != "two"+digest(test.body) {
							t.Errorf("got %d %.80q", got.status, got.body)
						}
						p.quiet()
					})
				}
			}
		}
	}
}

// TestTheBodyWithoutAnAttempt: a call that finds every endpoint out leaves its body, also one of a length that is not
// declared, and one that must be edited.
func TestTheBodyWithoutAnAttempt(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	p := startCaddy(t, fmt.Sprintf("failover {\n\tname outer\n\tendpoint http://%s {\n\t\tname one\n\t}\n}\nhandle_errors {\n\treverse_proxy %s\n}", one.address, two.address))
	if status, text, err := p.send("POST", "/failover/pools/outer/endpoints/one/trip", ""); status != 200 {
		t.Fatal(status, text, err)
	}
	for _, body := range []string{"hello", randomBody(100 << 10)} {
		for i, reader := range bothWays(body) {
			p.callWith("POST", "/", reader).want(t, fmt.Sprint(len(body), " bytes, ", i), 200, "two"+digest(body))
		}
	}
	if one.hits.Load() != 0 {
		t.Error("one was asked")
	}
}

// TestResponseRoutesGetTheBody checks that a handle_response route gets the body too.
func TestResponseRoutesGetTheBody(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	one.behave(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusTeapot)
	})
	p := startCaddy(t, fmt.Sprintf("reverse_proxy %s {\n\tlb_policy failover\n\t@teapot status 418\n\thandle_response @teapot {\n\t\treverse_proxy %s\n\t}\n}", one.address, two.address))
	for _, body := range []string{"hello", randomBody(100 << 10)} {
		for i, reader := range bothWays(body) {
			p.callWith("PUT", "/", reader).want(t, fmt.Sprint(len(body), " bytes, ", i), 200, "two"+digest(body))
		}
	}
}

// TestHandlersThatWrapTheBody: a handler before the proxy that wraps the body, or logs it, is no obstacle.
func TestHandlersThatWrapTheBody(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	one.down()
	p := startCaddy(t, fmt.Sprintf("log\nrequest_body {\n\tmax_size 1MB\n}\nfailover {\n\tname outer\n\tendpoint http://%s\n}\nhandle_errors {\n\treverse_proxy %s\n}", one.address, two.address))
	for i, reader := range bothWays("hello") {
		p.callWith("POST", "/", reader).want(t, fmt.Sprint(i), 200, "two"+digest("hello"))
	}
}

// TestErrorRoutesWaitForTheClient: a client that is slow with the rest of its body has the time for it that the server gives,
// once somebody reads it.
func TestErrorRoutesWaitForTheClient(t *testing.T) {
	two := newAPI(t, "two")
	p := startCaddy(t, fmt.Sprintf("failover {\n\tname outer\n\tendpoint http://127.0.0.1:1\n}\nhandle_errors {\n\treverse_proxy %s\n}", two.address))
	body := randomBody(200 << 10)
	conn, r := p.raw(fmt.Sprintf("POST / HTTP/1.1\nHost: api.test\nContent-Length: %d", len(body)))
	if _, err := io.WriteString(conn, body[:100<<10]); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the request is at the error routes", func() bool { return two.hits.Load() > 0 })
	pause := time.NewTimer(600 * time.Millisecond) // longer than a failed call waits for a body that nobody reads
	<-pause.C
	if _, err := io.WriteString(conn, body[100<<10:]); err != nil {
		t.Fatal(err)
	}
	p.rest(r).want(t, "the call", 200, "two"+digest(body))
}
