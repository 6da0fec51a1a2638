package lab

import (
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// TestStreamsThatEndWithoutTheirEnd has streams that end as if they were complete, but lack the event that says so. Where
// streams of the endpoint have had it, they count as cut: the client's stream breaks, too, and a call whose response is
// held back moves on. A document that is cut moves on before the client has any of it.
func TestStreamsThatEndWithoutTheirEnd(t *testing.T) {
	const (
		done      = "data: [DONE]\n\n"
		stop      = `data: {"choices":[{"delta":{},"finish_reason":"stop"}]}` + "\n\n"
		block     = "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"delta\":{\"text\":\"hi\"}}\n\n"
		message   = "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"
		candidate = `data: {"candidates":[{"content":{"parts":[{"text":"hi"}]}}]}` + "\n\n"
		last      = `data: {"candidates":[{"content":{},"finishReason":"STOP"}]}` + "\n\n"
		events    = "text/event-stream"
	)
	for _, test := range []struct {
		name, options, kind, before, now string
		outcome                          string
		moves                            bool
	}{
		{"without [DONE]", "api openai", events, token + done, token, "truncated", false},
		{"without [DONE], held", "api openai\ncommit complete", events, token + done, token, "truncated", true},
		{"without message_stop", "api anthropic", events, block + message, block, "truncated", false},
		{"without finishReason", "api gemini", events, candidate + last, candidate, "truncated", false},
		{"with a finish_reason only", "api openai", events, token + done, token + stop, "success", false},
		{"as always", "api openai", events, token, token, "success", false},
		{"no api", "", events, token + done, token, "success", false},
		{"a document", "api openai", "application/json", `{"choices":[]}`, `{"choices":[{"message":{"content":"h`, "truncated", true},
		{"a list", "api gemini", "application/json", `[{"candidates":[]}]`, `[{"candidates":[{"content":{"parts":[{"te`, "truncated", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := openLab(t, "failover {\nname lab\n"+test.options+"\nendpoint http://one:1 {\nname one\n}\nendpoint http://two:1 {\nname two\n}\n}")
				defer l.close()
				says := func(body string) roundTrip {
					slow := sends(1, 0, body) // the end comes apart from the event before
					return func(r *http.Request) (*http.Response, error) {
						resp, err := slow(r)
						resp.Header.Set("Content-Type", test.kind)
						return resp, err
					}
				}
				l.on("one:1", says(test.before))
				for range 3 {
					l.givesUp(time.Minute, "/")
				}
				l.on("one:1", says(test.now))
				l.takeAsked()
				whole := l.givesUp(time.Minute, "/")
				synctest.Wait()
				outcomes := l.endpoint("one").status().LastOutcomes
				if got := outcomes[len(outcomes)-1]; got != test.outcome {
					t.Errorf("the outcome is %s, want %s", got, test.outcome)
				}
				if moved := slices.Contains(l.takeAsked(), "two:1"); moved != test.moves || whole != (test.moves || test.outcome == "success") {
					t.Errorf("moved on: %t; whole: %t", moved, whole)
				}
			})
		})
	}
}
