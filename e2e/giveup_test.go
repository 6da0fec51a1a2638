package e2e

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// leavesAfter is how long clients wait for an answer: more than the second after which leaving counts
// as a sign of slowness, and less than any timeout.
const leavesAfter = 1200 * time.Millisecond

// asks sends a request whose client waits for the first byte of a good answer's body as long as said, and
// tells whether it came.
func (p *proxy) asks(client *http.Client, method, path string, patience time.Duration) bool {
	ctx, leave := context.WithTimeout(p.t.Context(), patience)
	defer leave()
	var body io.Reader
	if method == http.MethodPost {
		body = strings.NewReader("hello")
	}
	r, err := http.NewRequestWithContext(ctx, method, "http://api.test"+path, body)
	if err != nil {
		return false
	}
	resp, err := client.Do(r)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	n, _ := io.ReadFull(resp.Body, make([]byte, 1))
	return resp.StatusCode == http.StatusOK && n == 1
}

// http2Client is a client of the site that speaks HTTP/2, in which one that leaves resets its stream.
func (p *proxy) http2Client() *http.Client {
	client := clientOf(p.file("site"), true)
	transport := client.Transport.(*http.Transport)
	transport.Protocols = new(http.Protocols)
	transport.Protocols.SetUnencryptedHTTP2(true)
	p.t.Cleanup(client.CloseIdleConnections)
	return client
}

// lost returns how many of n concurrent requests got no answer.
func (p *proxy) lost(n int, send func() bool) int {
	var lost atomic.Int64
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			if !send() {
				lost.Add(1)
			}
		})
	}
	wg.Wait()
	return int(lost.Load())
}

const waitsLong = "timeout 10s\nbreaker {\nopen_for 500ms\nopen_max 500ms\nstep 100ms\n}\nretry {\nmethods any\n}"

// TestClientsThatGiveUpAreSeen has the primary hang for clients that leave long before its timeout. The
// backup must get their calls after a few, and the primary must be back when it works again.
func TestClientsThatGiveUpAreSeen(t *testing.T) {
	silentBody := func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusOK)
		flush(w)
		silent(w, r)
	}
	hang := delayed(time.Hour, silent)
	for name, c := range map[string]struct {
		good    int // calls before
		method  string
		http2   bool
		options string
		hang    http.HandlerFunc
	}{
		"after 73 calls": {73, http.MethodGet, false, "", hang},
		"POST":           {0, http.MethodPost, false, "", hang},
		"HTTP/2":         {0, http.MethodGet, true, "", hang},
		"streams":        {0, http.MethodPost, false, "commit first_byte", silentBody},
	} {
		apart(t, name, func(t *testing.T) {
			apis := newAPIs(t, "one", "two")
			one := apis[0]
			p := startCaddy(t, site(waitsLong+"\n"+c.options, apis...))
			client := p.client
			if c.http2 {
				client = p.http2Client()
			}
			send := func() bool { return p.asks(client, c.method, "/", leavesAfter) }
			for range c.good {
				send()
			}
			one.behave(c.hang)
			before := p.newestEvent()
			lost := 0
			for range 15 { // one after the other
				if !send() {
					lost++
				}
			}
			if lost > 10 {
				t.Errorf("%d of 15 calls were lost", lost)
			}
			var first event
			for _, e := range p.events(before) {
				if e.Kind == "breaker_opened" && first.Kind == "" {
					first = e
				}
			}
			if first.Endpoint != "one" || first.Reason != "unanswered" {
				t.Errorf("the first to open was %q, because of %q", first.Endpoint, first.Reason)
			}
			if got := p.one("one"); got.Cancelled < 5 || got.Failures != 0 {
				t.Errorf("%+v", got.totals)
			}
			if got := p.one("two"); got.State != "closed" || got.Cancelled != 0 {
				t.Errorf("the backup is %s: %+v", got.State, got.totals)
			}
			one.behave(one.fine)
			eventually(t, "the primary is back", func() bool { send(); return p.one("one").State == "closed" })
		})
	}
}

// TestManyClientsGiveUpAtOnce checks that hardly any call is lost after many clients leave at once.
func TestManyClientsGiveUpAtOnce(t *testing.T) {
	apis := newAPIs(t, "one", "two")
	apis[0].behave(silent)
	p := startCaddy(t, site(waitsLong, apis...))
	send := func() bool { return p.asks(p.client, http.MethodGet, "/", leavesAfter) }
	if lost := p.lost(20, send); lost > 20 {
		t.Errorf("%d lost", lost)
	}
	p.becomes("one", "open")
	lost := 0
	for range 5 {
		lost += p.lost(20, send)
	}
	if lost > 10 {
		t.Errorf("%d of 100 calls were lost after these", lost)
	}
}

// TestBothEndpointsHang checks that clients that give up take no last endpoint out, and that the first
// endpoint to answer again gets their calls.
func TestBothEndpointsHang(t *testing.T) {
	apis := newAPIs(t, "one", "two")
	for _, a := range apis {
		a.behave(silent)
	}
	p := startCaddy(t, site(waitsLong, apis...))
	before := p.newestEvent()
	send := func() bool { return p.asks(p.client, http.MethodGet, "/", leavesAfter) }
	for range 3 {
		p.lost(20, send)
	}
	for _, e := range p.events(before) {
		if e.Kind == "all_down" || e.Kind == "breaker_opened" && e.Endpoint != "one" {
			t.Errorf("%s of %q: %s", e.Kind, e.Endpoint, e.Reason)
		}
	}
	apis[1].behave(apis[1].fine)
	eventually(t, "calls are answered", send)
	p.wantState("two", "closed")
}

// TestClientsThatLeaveCloseNothing checks clients that leave early, however many, and clients that leave
// a route that always takes long while other calls are answered.
func TestClientsThatLeaveCloseNothing(t *testing.T) {
	for name, c := range map[string]struct {
		times, clients int
		patience       time.Duration
		others         bool
	}{
		"at once":                   {3, 200, time.Millisecond, false},
		"within a second":           {5, 50, 100 * time.Millisecond, false}, // a machine that pauses makes it longer
		"later, beside other calls": {3, 10, leavesAfter, true},
	} {
		apart(t, name, func(t *testing.T) {
			apis := newAPIs(t, "one", "two")
			one := apis[0]
			one.behave(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/slow" {
					silent(w, r)
					return
				}
				one.fine(w, r)
			})
			p := startCaddy(t, site("breaker {\nslow_factor 0\n}", apis...))
			before := p.newestEvent()
			var others *load
			if c.others {
				others = p.startLoad(20, http.MethodGet, "")
				others.await(5)
			}
			for range c.times {
				p.lost(c.clients, func() bool { return p.asks(p.client, http.MethodGet, "/slow", c.patience) })
			}
			if c.others {
				others.stop()
				others.wantNoFailure()
			}
			if all := p.events(before); len(all) > 0 {
				t.Errorf("%+v", all)
			}
			p.wantState("one", "closed")
		})
	}
}
