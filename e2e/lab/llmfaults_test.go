package lab

import (
	"fmt"
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// An llmFault is a fault of the Failover Bench catalogue, and what its checks ask for.
type llmFault struct {
	model   string
	within  time.Duration // of the whole call
	most    int           // attempts at the primary
	refused bool          // the client gets the provider's refusal
}

// llmFaults are fifteen of the sixteen: the other takes a minute.
var llmFaults = []llmFault{
	{"s01-429-retry-after", 20 * time.Second, 2, false},
	{"s02-429-persistent", 40 * time.Second, 4, false},
	{"s03-500-then-200", 20 * time.Second, 2, false},
	{"s04-503-persistent", 40 * time.Second, 6, false},
	{"s05-reset", 20 * time.Second, 2, false},
	{"s06-no-response", 100 * time.Second, 1, false},
	{"s07-slow-ttft", 60 * time.Second, 1, false},
	{"s08-stream-cut", 40 * time.Second, 6, false},
	{"s09-stream-stall", 45 * time.Second, 6, false},
	{"s10-malformed-chunk", 30 * time.Second, 6, false},
	{"s11-no-done", 8 * time.Second, 1, false},
	{"s12-context-length", 20 * time.Second, 1, false},
	{"s13-content-filter", 20 * time.Second, 1, true},
	{"s14-stream-cut", 40 * time.Second, 6, false},
	{"s16-503-persistent", 40 * time.Second, 6, false},
}

// llmSite is a pool whose second provider has models of its own.
const llmSite = `failover {
	name lab
	api openai
	commit complete
	endpoint http://one:1 {
		name one
		key of-one
	}
	endpoint http://two:1 {
		name two
		key of-two
		model s14-stream-cut fb-ok-noprefill
		model fb-ok
	}
}`

// TestSixteenFaults asks one pool for all models in a row. Each call is whole, in time, and asks the
// primary as often as the catalogue allows, and at least once: no model's fault keeps another away from it.
func TestSixteenFaults(t *testing.T) {
	for _, stream := range []bool{true, false} {
		t.Run(fmt.Sprint("streaming ", stream), func(t *testing.T) {
			withLLM(t, func(l *lab, p *llmProvider) {
				for _, fault := range llmFaults {
					fault.play(t, l, p, stream)
				}
				comesBack(t, l, p, stream)
			})
		})
	}
}

// withLLM plays in a bubble, with one provider as the primary and as its fallback.
func withLLM(t *testing.T, play func(l *lab, p *llmProvider)) {
	synctest.Test(t, func(t *testing.T) {
		l := openLab(t, llmSite)
		defer l.close()
		p := new(llmProvider)
		l.on("one:1", p.roundTrip)
		l.on("two:1", p.roundTrip)
		play(l, p)
		synctest.Wait() // for answers that were kept, and are not needed
	})
}

func (fault llmFault) play(t *testing.T, l *lab, p *llmProvider, stream bool) {
	p.reset()
	got := l.askLLM(fault.model, stream)
	switch {
	case fault.refused && (got.err == nil || len(p.askedFor("fb-ok")) > 0):
		t.Errorf("%s: the client gets %q, and not the refusal", fault.model, got.text)
	case !fault.refused && (!got.whole() || !got.usage):
		t.Errorf("%s: the client gets %q, usage %t, %v", fault.model, got.text, got.usage, got.err)
	}
	if got.took > fault.within {
		t.Errorf("%s: it took %v, want at most %v", fault.model, got.took, fault.within)
	}
	if n := len(p.askedFor(fault.model)); n < 1 || n > fault.most {
		t.Errorf("%s: %d attempts at the primary, want 1 to %d", fault.model, n, fault.most)
	}
	if alive := l.askLLM("fb-ok", false); !alive.whole() {
		t.Errorf("after %s, another model's call: %v", fault.model, alive.err)
	}
}

// comesBack has the primary down for a minute for one model. Every call is whole, and the primary
// has the model's calls again within half a minute.
func comesBack(t *testing.T, l *lab, p *llmProvider, stream bool) {
	const model = "s15-flap"
	p.reset()
	began := time.Now()
	for i := range 20 {
		time.Sleep(time.Until(began.Add(time.Duration(i) * 4 * time.Second)))
		if got := l.askLLM(model, stream); !got.whole() {
			t.Errorf("%s: call %d after %v: %q, %v", model, i, time.Since(began), got.text, got.err)
		}
	}
	var back time.Duration
	for _, one := range p.askedFor(model) {
		if one.status == 200 && back == 0 {
			back = one.at
		}
	}
	if back == 0 || back > llmDown+30*time.Second {
		t.Errorf("%s: the primary answers again after %v", model, back)
	}
}

// TestBrokenAnswersThatAreHeld has answers that are whole by HTTP's rules, and broken all the same. With
// `commit complete` the call moves on; without another endpoint the client gets the answer as it is.
func TestBrokenAnswersThatAreHeld(t *testing.T) {
	const word = `data: {"choices":[{"delta":{"content":"hi"}}]}` + "\n\n"
	for _, test := range []struct{ name, kind, body, outcome string }{
		{"a document that is cut", "application/json", `{"choices":[{"mess`, "truncated"},
		{"a page that says it is JSON", "application/json", "<html>", "truncated"},
		{"an event that is cut", "text/event-stream", word + `data: {"choices":[{"del` + "\n\n" + word, "truncated"},
		{"an error after the first word", "text/event-stream", word + `data: {"error":{"code":502,"message":"no"}}` + "\n\n", "status"},
		{"a limit after the first word", "text/event-stream", word + `data: {"error":{"code":"rate_limit_exceeded"}}` + "\n\n", "rate_limited"},
		{"no model after the first word", "text/event-stream", word + `data: {"error":{"code":"model_not_found"}}` + "\n\n", "success"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := openLab(t, llmSite)
				defer l.close()
				breaks := func(r *http.Request) (*http.Response, error) {
					return respond(r, http.StatusOK, test.body, "Content-Type", test.kind), nil
				}
				l.on("one:1", breaks)
				if w := l.call(http.MethodPost, "/v1/chat/completions", `{"model":"x"}`); w.Body.String() != "OK" {
					t.Errorf("the client gets %q", w.Body)
				}
				if asked := l.takeAsked(); !slices.Equal(asked, []string{"one:1", "two:1"}) {
					t.Errorf("asked: %v", asked)
				}
				one := l.endpoint("one").status()
				if !slices.Equal(one.LastOutcomes, []string{test.outcome}) || one.InFlight != 0 {
					t.Errorf("the outcomes are %s, want %s; %d in flight", one.LastOutcomes, test.outcome, one.InFlight)
				}
				l.endpoint("one").order("reset", "")
				l.endpoint("two").order("trip", "")
				if w := l.call(http.MethodPost, "/v1/chat/completions", `{"model":"x"}`); test.outcome == "truncated" && w.Body.String() != test.body {
					t.Errorf("without another endpoint the client gets %q", w.Body)
				}
				synctest.Wait()
			})
		})
	}
}
