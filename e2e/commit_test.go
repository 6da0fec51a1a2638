package e2e

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestCommit has the primary fail after its headers. The client must get the backup's whole answer if
// nothing was committed, and an aborted stream otherwise; the primary is blamed in both cases.
func TestCommit(t *testing.T) {
	const ( // what the client gets
		whole   = "the whole answer of the backup"
		aborted = "an aborted stream"
	)
	for _, test := range []struct{ commit, model, want, blame string }{
		{"headers", "headers-silence", aborted, "stalled"},
		{"headers", "cut", aborted, "truncated"},
		{"headers", "stall", aborted, "stalled"},
		{"first_byte", "headers-silence", whole, "timeout"},
		{"first_byte", "cut", aborted, "truncated"},
		{"first_byte", "stall", aborted, "stalled"},
		{"complete", "headers-silence", whole, "timeout"},
		{"complete", "cut", whole, "truncated"},
		{"complete", "stall", whole, "stalled"},
		{"complete 100B", "cut", aborted, "truncated"}, // two thirds are more than that
		{"complete 100B", "stall", aborted, "stalled"},
	} {
		for _, stream := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s %s stream=%t", test.commit, test.model, stream), func(t *testing.T) {
				one, two := newProvider(t, "one", true), newProvider(t, "two", false)
				p := startCaddy(t, providers("commit "+test.commit, one, two))
				began := time.Now()
				status, body, err := p.ask(false, stream, test.model)
				took := time.Since(began)
				switch {
				case test.want == whole && (err != nil || status != 200 || body != two.whole(false, stream, "")):
					t.Errorf("got %d %v %q", status, err, body)
				case test.want == aborted && (status != 200 || !errors.Is(err, io.ErrUnexpectedEOF)):
					t.Errorf("got %d %v %q", status, err, body)
				case test.want == aborted && !strings.HasPrefix(one.whole(false, stream, ""), body):
					t.Errorf("got %q", body)
				}
				if took > 5*time.Second {
					t.Errorf("took %v", took)
				}
				p.quiet()
				if got := p.one("one").lastOutcome(); got != test.blame {
					t.Errorf("the primary is blamed for %s, not %s", got, test.blame)
				}
			})
		}
	}
}

// TestEndsWithoutSentinel checks that a stream that ends cleanly ends at once, without waiting for the
// idle timeout, and counts as a success.
func TestEndsWithoutSentinel(t *testing.T) {
	for _, commit := range []string{"headers", "first_byte", "complete"} {
		t.Run(commit, func(t *testing.T) {
			one := newProvider(t, "one", true)
			p := startCaddy(t, strings.NewReplacer("700ms", "1h", "600ms", "1h").Replace(providers("commit "+commit, one)))
			for _, model := range []string{"no-sentinel", "malformed"} {
				status, body, err := p.ask(false, true, model)
				if status != 200 || err != nil || body != one.whole(false, true, model) {
					t.Errorf("%s: got %d %v %q", model, status, err, body)
				}
				p.quiet()
				if got := p.one("one").lastOutcome(); got != "success" {
					t.Errorf("%s: outcome %q", model, got)
				}
			}
		})
	}
}

// TestCompleteWithoutAnother checks that the client gets an error, and no part of the answer, if a held
// answer breaks and there is no other endpoint.
func TestCompleteWithoutAnother(t *testing.T) {
	one := newProvider(t, "one", true)
	p := startCaddy(t, providers("commit complete", one))
	for model, want := range map[string]int{"cut": http.StatusBadGateway, "stall": http.StatusGatewayTimeout, "headers-silence": http.StatusGatewayTimeout} {
		status, body, err := p.ask(false, true, model)
		if err != nil || status != want || body != "" {
			t.Errorf("%s: got %d %v %q", model, status, err, body)
		}
	}
}

// TestAbortsHTTP2Streams checks that an abort resets its own stream and no other.
func TestAbortsHTTP2Streams(t *testing.T) {
	one := newProvider(t, "one", true)
	p := startCaddy(t, providers("", one))
	p.client = clientOf(p.file("site"), true)
	transport := p.client.Transport.(*http.Transport)
	transport.Protocols = new(http.Protocols)
	transport.Protocols.SetUnencryptedHTTP2(true)
	for _, model := range []string{"cut", "stall"} {
		status, body, err := p.ask(false, true, model)
		if status != 200 || err == nil || !strings.Contains(err.Error(), "INTERNAL_ERROR") {
			t.Errorf("%s: got %d %v %q", model, status, err, body)
		}
	}
	if status, body, err := p.ask(false, true, "ok"); status != 200 || err != nil || body != one.whole(false, true, "") {
		t.Errorf("the next stream: got %d %v %q", status, err, body)
	}
}

// TestClientThatLeavesAStream checks that the attempt counts as cancelled, whether its answer is held or
// under way.
func TestClientThatLeavesAStream(t *testing.T) {
	for _, commit := range []string{"headers", "complete"} {
		t.Run(commit, func(t *testing.T) {
			one := newAPI(t, "one")
			begun := make(chan struct{})
			one.behave(func(w http.ResponseWriter, r *http.Request) {
				fmt.Fprint(w, "the beginning")
				flush(w)
				close(begun)
				silent(w, r)
			})
			p := startCaddy(t, site("commit "+commit+"\n\tidle_timeout 1h", one))
			leave, left := p.leaving(http.MethodGet, "/")
			receiveEnd(t, "the answer has begun", begun)
			leave()
			receive(t, "the client's end", left)
			p.wantTotals("one", totals{Attempts: 1, Cancelled: 1})
		})
	}
}

// TestStreamError checks that a last event comes before the abort.
func TestStreamError(t *testing.T) {
	one := newProvider(t, "one", true)
	p := startCaddy(t, providers("stream_error\nbreaker off", one))
	for model, message := range map[string]string{
		"cut":             `{"type":"error","error":{"type":"upstream_error","code":"truncated","message":"the response broke off"}}`,
		"stall":           `{"type":"error","error":{"type":"upstream_error","code":"stalled","message":"the response stopped coming"}}`,
		"headers-silence": `{"type":"error","error":{"type":"upstream_error","code":"stalled","message":"the response stopped coming"}}`,
	} {
		status, body, err := p.ask(false, true, model)
		if status != 200 || !errors.Is(err, io.ErrUnexpectedEOF) || !strings.HasSuffix(body, "\n\nevent: error\ndata: "+message+"\n\n") {
			t.Errorf("%s: got %d %v %q", model, status, err, body)
		}
		if status, body, err = p.ask(false, false, model); status != 200 || err == nil || strings.Contains(body, "event") {
			t.Errorf("%s, no stream: got %d %v %q", model, status, err, body)
		}
	}
	if status, body, err := p.ask(false, true, "ok"); status != 200 || err != nil || body != one.whole(false, true, "") {
		t.Errorf("got %d %v %q", status, err, body)
	}
}

// TestProvidersThatMisbehave has the primary fail in each way of LLM APIs, with OpenAI's and Anthropic's
// endpoints, streaming and not. Each call must get the whole answer of a working provider in time, and
// the primary no more attempts than its failure justifies.
func TestProvidersThatMisbehave(t *testing.T) {
	const each = 2 // calls of a kind
	const all = 4 * each
	for _, test := range []struct {
		model  string
		from   string // whose answer it is: the primary's, the backup's
		asked  [2]int // the primary: at least, at most
		status int
		waits  bool // calls wait for a timeout
	}{
		{model: "ok", from: "one", asked: [2]int{all, all}},
		{model: "429", from: "two", asked: [2]int{1, 3}}, // its hold begins with a second, and doubles
		{model: "429-retry-after", from: "two", asked: [2]int{1, 1}},
		{model: "500-once", from: "either", asked: [2]int{all, all}},
		{model: "503", from: "two", asked: [2]int{5, 5}},
		{model: "reset", from: "two", asked: [2]int{5, 5}},
		{model: "silence", from: "two", asked: [2]int{5, 5}, waits: true},
		{model: "headers-silence", from: "two", asked: [2]int{5, 5}, waits: true},
		{model: "cut", from: "two", asked: [2]int{5, 5}},
		{model: "stall", from: "two", asked: [2]int{5, 5}, waits: true},
		{model: "malformed", from: "one", asked: [2]int{all, all}}, // passes as it is
		{model: "no-sentinel", from: "one", asked: [2]int{all, all}},
		{model: "context-length", from: "two", asked: [2]int{all, all}},
		{model: "content-filter", asked: [2]int{all, all}, status: http.StatusBadRequest},
	} {
		t.Run(test.model, func(t *testing.T) {
			one, two := newProvider(t, "one", true), newProvider(t, "two", false)
			timeouts := "timeout 1h\nidle_timeout 1h" // which no call waits for
			if test.waits {
				timeouts = "timeout 700ms\nidle_timeout 600ms"
			}
			p := startCaddy(t, keyed(timeouts+"\ncommit complete\nnext_on 400 context_length_exceeded\nbreaker {\nopen_for 60s\n}"+retrying, one.api, two.api))
			for range each {
				for kind := range 4 {
					anthropic, stream := kind&1 != 0, kind&2 != 0
					began := time.Now()
					status, body, err := p.ask(anthropic, stream, test.model)
					if took := time.Since(began); took > 5*time.Second {
						t.Errorf("anthropic %t, stream %t: took %v", anthropic, stream, took)
					}
					if test.status != 0 {
						if err != nil || status != test.status || !strings.Contains(body, "content_filter") {
							t.Errorf("got %d %v %q", status, err, body)
						}
						continue
					}
					wants := []string{one.whole(anthropic, stream, test.model), two.whole(anthropic, stream, "")}
					switch test.from {
					case "one":
						wants = wants[:1]
					case "two":
						wants = wants[1:]
					}
					if err != nil || status != http.StatusOK || !slices.Contains(wants, body) {
						t.Errorf("anthropic %t, stream %t: got %d %v %q", anthropic, stream, status, err, body)
					}
				}
			}
			if n := one.times(test.model); n < test.asked[0] || n > test.asked[1] {
				t.Errorf("the primary was asked %d times, not %v", n, test.asked)
			}
			if n := two.times(test.model); test.status != 0 && n != 0 {
				t.Errorf("the backup was asked %d times", n)
			}
		})
	}
}

// TestProviderThatComesBack checks that no call fails while the primary is down for a while, and that the
// primary gets its calls back.
func TestProviderThatComesBack(t *testing.T) {
	one, two := newProvider(t, "one", true), newProvider(t, "two", false)
	p := startCaddy(t, providers("commit complete\nbreaker {\nopen_for 500ms\nopen_max 500ms\n}", one, two))
	good := []string{one.whole(false, true, ""), two.whole(false, true, "")}
	calls := 0
	took := eventually(t, "the primary has its calls back", func() bool {
		status, body, err := p.ask(false, true, "down-then-well")
		if calls++; err != nil || status != 200 || !slices.Contains(good, body) {
			t.Fatalf("call %d: got %d %v %q", calls, status, err, body)
		}
		return body == good[0] && calls > 20 && p.one("one").State == "closed"
	})
	t.Logf("%d calls in %v, of which the primary was asked %d", calls, took, one.times("down-then-well"))
}
