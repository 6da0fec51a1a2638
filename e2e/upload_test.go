package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// held is the path of the requests that staying keeps.
const held = "/held"

// staying makes the endpoint read and then keep each request for the path held, until leave is called or
// the client leaves. It answers all other requests.
func (a *api) staying() (arrived <-chan struct{}, leave func()) {
	came, stop := make(chan struct{}, 10_000), make(chan struct{})
	a.behave(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == held {
			_, _ = io.Copy(io.Discard, r.Body)
			came <- struct{}{}
			select {
			case <-stop:
			case <-r.Context().Done():
			}
		}
		a.fine(w, r)
	})
	return came, sync.OnceFunc(func() { close(stop) })
}

// room counts how many calls an endpoint of the pool api may have at once, up to a number, beside what it has: those that
// are let in stay until all are let in or one is refused.
func (p *proxy) room(a *api, most int) (n int) {
	p.t.Helper()
	before := p.one(a.name).InFlight
	arrived, leave := a.staying()
	defer a.behave(a.fine)
	var calls []<-chan string
	defer func() {
		leave()
		for _, answer := range calls {
			if got := receive(p.t, "the answer to a call", answer); !strings.HasPrefix(got, "200 ") && !strings.HasPrefix(got, "503 ") {
				p.t.Errorf("a call got %q", got)
			}
		}
		eventually(p.t, "the calls have left the endpoint", func() bool { return p.one(a.name).InFlight == before })
	}()
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	for n < most {
		answer := p.waiting(http.MethodGet, held)
		select {
		case <-arrived:
			calls = append(calls, answer)
			n++
		case got := <-answer:
			if !strings.HasPrefix(got, "503 ") {
				p.t.Fatalf("a call got %q", got)
			}
			return n
		case <-ctx.Done():
			p.t.Fatal("a call is neither answered nor at the endpoint")
		}
	}
	return n
}

// ofLimit is a pool of one endpoint with a limit of concurrent attempts.
func ofLimit(a *api, limit int) string {
	return edited("api", "", []*api{a}, fmt.Sprint("max_requests ", limit))
}

// paused begins an upload of 5,000 bytes and sends one of them.
func (p *proxy) paused() (net.Conn, *bufio.Reader) {
	p.t.Helper()
	conn, reader := p.raw("PUT / HTTP/1.1\nHost: api.test\nContent-Length: 5000")
	fmt.Fprint(conn, "a")
	return conn, reader
}

// expecting begins an upload of 5,000 bytes, waits for 100 Continue, and sends none of them.
func (p *proxy) expecting() (net.Conn, *bufio.Reader) {
	p.t.Helper()
	conn, reader := p.raw("PUT / HTTP/1.1\nHost: api.test\nContent-Length: 5000\nExpect: 100-continue")
	wantLine(p.t, reader, "HTTP/1.1 100 Continue\r")
	for line := ""; line != "\r\n"; {
		var err error
		if line, err = reader.ReadString('\n'); err != nil {
			p.t.Fatal(err)
		}
	}
	return conn, reader
}

// An upload is an upload whose client pauses.
type upload struct {
	conn   net.Conn
	reader *bufio.Reader
	rest   string // that the client has not sent
}

// goOn sends the rest of an upload, and wants the answer of endpoint one to all of it.
func (p *proxy) goOn(what string, u upload) {
	p.t.Helper()
	fmt.Fprint(u.conn, u.rest)
	p.rest(u.reader).want(p.t, what, 200, "one"+digest(strings.Repeat("a", 5000)))
}

// TestPausedUploadsFillNoSlot checks that more paused uploads than the endpoint's limit make it refuse no good
// call, and that uploads that go on get an answer.
func TestPausedUploadsFillNoSlot(t *testing.T) {
	const limit = 20
	one := newAPI(t, "one")
	p := startCaddy(t, ofLimit(one, limit))
	var uploads []upload
	for range 2 { // the second round finds the slots that the first has left
		for range limit {
			conn, reader := p.paused()
			uploads = append(uploads, upload{conn, reader, strings.Repeat("a", 4999)})
		}
		eventually(t, "the uploads are at the endpoint", func() bool { return p.one("one").InFlight == int64(len(uploads)) })
		eventually(t, "the uploads fill no slot", func() bool { return p.room(one, limit) == limit })
	}
	for i := range 3 * limit {
		p.get().want(t, fmt.Sprint("call ", i), 200, "one")
	}
	for i, u := range uploads {
		p.goOn(fmt.Sprint("upload ", i), u)
	}
	p.quiet()
	if got := p.room(one, limit+1); got != limit {
		t.Errorf("the endpoint has room for %d, want %d", got, limit)
	}
}

// TestManyPausedUploadsRefuseNobody checks good calls while more uploads than the endpoint's limit arrive, and
// afterwards. Half of the uploads send a byte, half nothing.
func TestManyPausedUploadsRefuseNobody(t *testing.T) {
	const limit, rounds, each, clients = 100, 2, 60, 8
	one := newAPI(t, "one")
	p := startCaddy(t, ofLimit(one, limit))
	good := func() {
		t.Helper()
		var wg sync.WaitGroup
		for range clients {
			wg.Go(func() {
				for i := range 50 {
					if status, err := p.statusOf(http.MethodGet, "/"); err != nil || status != 200 {
						t.Errorf("call %d got %d, %v", i, status, err)
					}
				}
			})
		}
		wg.Wait()
	}
	var uploads []upload
	for range rounds {
		for i := range each {
			if i%2 == 0 {
				conn, reader := p.paused()
				uploads = append(uploads, upload{conn, reader, strings.Repeat("a", 4999)})
			} else {
				conn, reader := p.expecting()
				uploads = append(uploads, upload{conn, reader, strings.Repeat("a", 5000)})
			}
		}
		good() // beside at most as many as fill a slot until they are known to pause
		eventually(t, "the uploads are at the endpoint", func() bool { return p.one("one").InFlight == int64(len(uploads)) })
		eventually(t, "the uploads fill no slot", func() bool { return p.room(one, limit) == limit })
	}
	good()
	for i, u := range uploads {
		p.goOn(fmt.Sprint("upload ", i), u)
	}
	p.quiet()
	if got := p.room(one, limit+1); got != limit {
		t.Errorf("the endpoint has room for %d, want %d", got, limit)
	}
}

// statusOf makes a call and reads its whole answer. It may be used on any goroutine.
func (p *proxy) statusOf(method, path string) (int, error) {
	resp, err := p.do(method, path, nil)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, err
}

// TestUploadsThatNeverBeginFillNoSlot checks clients that get 100 Continue and send nothing.
func TestUploadsThatNeverBeginFillNoSlot(t *testing.T) {
	one := newAPI(t, "one")
	p := startCaddy(t, ofLimit(one, 2))
	for range 2 {
		p.expecting()
	}
	eventually(t, "the uploads fill no slot", func() bool { return p.room(one, 3) == 2 })
	p.get().want(t, "beside them", 200, "one")
}

// TestUploadsThatTrickleFillNoSlot checks that an upload that sends a byte now and then fills no slot.
func TestUploadsThatTrickleFillNoSlot(t *testing.T) {
	one := newAPI(t, "one")
	p := startCaddy(t, ofLimit(one, 1))
	conn, _ := p.raw("PUT / HTTP/1.1\nHost: api.test\nContent-Length: 50000")
	fmt.Fprint(conn, "a")
	eventually(t, "the upload is at the endpoint", func() bool { return one.hits.Load() == 1 })
	eventually(t, "the upload fills no slot", func() bool {
		fmt.Fprint(conn, "a")
		return p.get().status == 200
	})
	p.get().want(t, "beside it", 200, "one")
}

// TestASlotIsFilledWhileTheEndpointIsAtWork checks that a call takes a slot while the endpoint works on it, even
// if its upload was slow before.
func TestASlotIsFilledWhileTheEndpointIsAtWork(t *testing.T) {
	one := newAPI(t, "one")
	arrived, leave := one.staying()
	defer leave()
	p := startCaddy(t, ofLimit(one, 1))
	conn, reader := p.raw("PUT " + held + " HTTP/1.1\nHost: api.test\nContent-Length: 5000")
	fmt.Fprint(conn, "a")
	eventually(t, "the upload fills no slot", func() bool { return one.hits.Load() > 0 && p.get().status == 200 })
	fmt.Fprint(conn, strings.Repeat("a", 4999))
	receive(t, "the whole upload at the endpoint", arrived)
	eventually(t, "the upload fills its slot", func() bool { return p.get().status == 503 })
	for i := range 20 {
		if got := p.get(); got.status != 503 {
			t.Errorf("call %d got %+v from an endpoint that has as much as it may", i, got)
		}
	}
	leave()
	p.rest(reader).want(t, "the upload", 200, "one")
	p.get().want(t, "after it", 200, "one")
}

// TestTheDeadlineEndsACallThatWaitsForItsClient checks that the client gets 408, over HTTP/1 and HTTP/2, before
// and after the attempt began, and that no endpoint is blamed.
func TestTheDeadlineEndsACallThatWaitsForItsClient(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	const deadline, timeout = 400 * time.Millisecond, 20 * time.Second
	options := fmt.Sprintf("timeout %v\n\tretry {\n\t\tmethods any\n\t\tdeadline %v\n\t}", timeout, deadline)
	p := startCaddy(t, "route /json {\n"+edited("edited", options, []*api{one}, "set_json a 1")+"\n}\nroute {\n"+site(options, one, two)+"\n}")
	h2 := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", p.file("site"))
	}}
	h2.Protocols = new(http.Protocols)
	h2.Protocols.SetUnencryptedHTTP2(true)
	defer h2.CloseIdleConnections()
	for protocol, transport := range map[int]http.RoundTripper{1: p.client.Transport, 2: h2} {
		for what, length := range map[string]int64{"a small body": 100, "an upload": 5000, "an upload of unknown length": -1, "json": -1} {
			t.Run(fmt.Sprintf("HTTP/%d, %s", protocol, what), func(t *testing.T) {
				body, rest := io.Pipe()
				defer rest.Close()
				go fmt.Fprint(rest, "a")
				path := "/"
				if what == "json" {
					path = "/json"
				}
				r, err := http.NewRequest(http.MethodPost, "http://api.test"+path, body)
				if err != nil {
					t.Fatal(err)
				}
				r.ContentLength = length
				began := time.Now()
				resp, err := transport.RoundTrip(r)
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
				if took := time.Since(began); resp.StatusCode != http.StatusRequestTimeout || took < deadline || took >= timeout {
					t.Errorf("got %d after %v", resp.StatusCode, took)
				}
				if resp.ProtoMajor != protocol {
					t.Errorf("it was %s", resp.Proto)
				}
			})
		}
	}
	p.get().want(t, "afterwards", 200, "one")
	for _, e := range []endpointStatus{p.one("one"), p.one("two"), p.endpoint("edited", "one")} {
		if e.Failures != 0 {
			t.Errorf("endpoint %s has %+v", e.Name, e.totals)
		}
	}
	p.nothingKept()
}

// TestTheDeadlineOfAnEndpointIsStill504 checks that the client gets 504 if its body came at once.
func TestTheDeadlineOfAnEndpointIsStill504(t *testing.T) {
	one := newAPI(t, "one")
	defer one.hang()()
	p := startCaddy(t, site("retry {\n\t\tmethods any\n\t\tdeadline 200ms\n\t}", one))
	for _, size := range []int{0, 10, 5000, 50_000} {
		if got := p.call(http.MethodPost, "/", strings.Repeat("a", size)); got.status != http.StatusGatewayTimeout {
			t.Errorf("%d bytes: got %+v", size, got)
		}
	}
}

// TestAnEndpointThatLeavesAPausedUploadIsLeft at once: the client need not send first, and is not asked to by
// the test. What it sends then goes to the next endpoint, whole, or it has its answer.
func TestAnEndpointThatLeavesAPausedUploadIsLeft(t *testing.T) {
	for name, begin := range map[string]func(testing.TB, string) *api{"HTTP/1": newAPI, "HTTP/2": newTLSAPI} {
		for _, retries := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, retries %v", name, retries), func(t *testing.T) {
				one, two := begin(t, "one"), begin(t, "two")
				one.behave(cut)
				options := fmt.Sprint("timeout ", 2*patience)
				if one.tls {
					one.behave(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }) // resets the stream
					options += "\n\ttransport http {\n\t\ttls_trust_pool file " + one.certificate(t) + " " + two.certificate(t) + "\n\t}"
				}
				if retries {
					options += retrying
				}
				p := startCaddy(t, site(options, one, two))
				body := randomBody(5000)
				conn, reader := p.raw("POST / HTTP/1.1\nHost: api.test\nContent-Length: 5000")
				fmt.Fprint(conn, body[:1000])
				if retries {
					eventually(t, "the next endpoint is asked", func() bool { return two.hits.Load() == 1 })
					fmt.Fprint(conn, body[1000:])
					p.rest(reader).want(t, "the whole upload", 200, "two"+digest(body))
				} else if got := p.rest(reader); got.status != http.StatusBadGateway || two.hits.Load() != 0 {
					t.Errorf("got %+v, and the next endpoint got %d requests", got, two.hits.Load())
				}
				p.wantTotals("one", totals{Attempts: 1, Failures: 1})
				p.nothingKept()
			})
		}
	}
}
