package lab

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
)

// asksFor sends a call for a model, and returns its status and body, and the endpoints that it asked.
func (l *lab) asksFor(model string) (status int, body, asked string) {
	l.takeAsked()
	w := l.call(http.MethodPost, "/v1/chat/completions", `{"model":"`+model+`"}`, "Content-Type", "application/json")
	return w.Code, w.Body.String(), strings.Join(l.takeAsked(), " ")
}

// TestModelsOfEndpointsThatGetNoCalls has a model that one endpoint takes, and one that the other takes. It checks what a
// call for the first gets.
func TestModelsOfEndpointsThatGetNoCalls(t *testing.T) {
	const chat = `{"choices":[{"message":{"content":"x"},"finish_reason":"stop"}]}`
	serves := func(r *http.Request) (*http.Response, error) {
		return respond(r, http.StatusOK, chat, "Content-Type", "application/json"), nil
	}
	held := func(r *http.Request) (*http.Response, error) {
		return respond(r, http.StatusTooManyRequests, "{}", "Retry-After", "30"), nil
	}
	usedUp := func(r *http.Request) (*http.Response, error) {
		return respond(r, http.StatusOK, chat, "Content-Type", "application/json",
			"X-Ratelimit-Remaining-Requests", "0", "X-Ratelimit-Reset-Requests", "1m0s"), nil
	}
	weighs := func(weight string) func(l *lab) {
		return func(l *lab) {
			var answer any
			if code := admin(l.t, http.MethodPatch, "pools/lab/endpoints/one", `{"weight":`+weight+`}`, &answer); code != http.StatusOK {
				l.t.Fatalf("setting the weight: %d", code)
			}
		}
	}
	calls := func(n int) func(l *lab) {
		return func(l *lab) {
			for range n {
				l.asksFor("a")
			}
		}
	}
	for name, test := range map[string]struct {
		options string // of the endpoint with the model
		answers roundTrip
		before  func(l *lab)
		status  int
		asked   string
		says    string
	}{
		"it is well":                {"", serves, nil, 200, "one", ""},
		"weight 0":                  {"weight 0", serves, nil, 404, "", `no endpoint of this API has the model \"a\"`},
		"weight 0 until an order":   {"weight 0", serves, weighs("1"), 200, "one", ""},
		"weight 0 by an order":      {"", serves, weighs("0"), 503, "", "every endpoint that has the model is out"},
		"weight 1 by a schedule":    {"weight 0\nschedule \"0 3 * * *\" 1h {\nweight 1\n}", serves, nil, 503, "", "every endpoint that has the model is out"},
		"drained":                   {"", serves, func(l *lab) { l.endpoint("one").order("drain", "") }, 503, "", "every endpoint that has the model is out"},
		"open":                      {"", refusesConnections, calls(8), 503, "", "every endpoint that has the model is out"},
		"in cooldown":               {"", held, calls(1), 429, "", "every endpoint that has the model is in cooldown"},
		"its quota is used up":      {"", usedUp, calls(1), 200, "one", ""},
		"its limit is used up":      {"limit 1 requests per 1m", serves, calls(1), 429, "", "every endpoint that has the model is in cooldown"},
		"the other's limit is, too": {"", refusesConnections, calls(8), 503, "", "every endpoint that has the model is out"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				other := ""
				if strings.HasPrefix(name, "the other") {
					other = "\nlimit 1 requests per 1h"
				}
				l := openLab(t, fmt.Sprintf("failover {\nname lab\napi openai\nquota endpoint\nendpoint http://one:1 {\nname one\nmodel a one-a\n%s\n}\nendpoint http://two:1 {\nname two\nmodel b two-b%s\n}\n}", test.options, other))
				defer l.close()
				l.on("one:1", test.answers)
				l.on("two:1", serves)
				if status, _, asked := l.asksFor("b"); status != 200 || asked != "two:1" {
					t.Errorf("the other model gets %d from %s", status, asked)
				}
				if test.before != nil {
					test.before(l)
				}
				want := test.asked
				if want != "" {
					want += ":1"
				}
				if status, body, asked := l.asksFor("a"); status != test.status || asked != want || !strings.Contains(body, test.says) {
					t.Errorf("a call gets %d %s from %q, want %d from %q", status, body, asked, test.status, want)
				}
			})
		})
	}
}
