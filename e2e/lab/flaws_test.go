package lab

import (
	"context"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestAnswersWithoutData has good statuses whose bodies are not what the API promises: pages of a
// middlebox, empty bodies, streams that end before they begin, and errors that no rule names. The call
// moves on, and the endpoint that always answers so is left. What looks alike and is fine goes to the client.
func TestAnswersWithoutData(t *testing.T) {
	const (
		asJSON  = "application/json"
		events  = "text/event-stream"
		page    = "<!DOCTYPE html><html><body>Maintenance</body></html>"
		aRole   = `data: {"choices":[{"delta":{"role":"assistant","content":""},"finish_reason":null}]}` + "\n\n"
		call    = `{"jsonrpc":"2.0","id":1,"method":"eth_call"}`
		notices = `{"jsonrpc":"2.0","method":"notify"}`
	)
	for _, test := range []struct {
		name, api, method, asked string
		status                   int
		kind, body               string
		outcome                  string // of the first endpoint; empty: the client gets its answer
	}{
		{"a page", "openai", "POST", "{}", 200, "text/html; charset=utf-8", page, "truncated"},
		{"a page that says it is JSON", "openai", "POST", "{}", 200, asJSON, "\r\n " + page, "truncated"},
		{"a page that says it is a stream", "anthropic", "POST", "{}", 200, events, page, "truncated"},
		{"a page of no type", "gemini", "POST", "{}", 200, "", page, "truncated"},
		{"a page as text", "jsonrpc", "POST", call, 200, "text/plain", "<HTML><body>no</body>", "truncated"},
		{"nothing", "openai", "POST", "{}", 200, "", "", "truncated"},
		{"nothing as JSON", "anthropic", "POST", "{}", 200, asJSON, "", "truncated"},
		{"blanks", "openai", "POST", "{}", 200, asJSON, " \n\n", "truncated"},
		{"nothing to a call", "jsonrpc", "POST", call, 200, asJSON, "", "truncated"},
		{"a stream of nothing", "openai", "POST", "{}", 200, events, "", "truncated"},
		{"a stream of comments", "openai", "POST", "{}", 200, events, ": OPENROUTER PROCESSING\n\n", "truncated"},
		{"a stream that only begins", "openai", "POST", "{}", 200, events, aRole, "truncated"},
		{"an error as text", "openai", "POST", "{}", 200, asJSON, `{"error":"upstream timed out"}`, "status"},
		{"an unknown error", "openai", "POST", "{}", 200, asJSON, `{"error":{"message":"no","type":"strange"}}`, "success"},

		{"an accepted request", "openai", "POST", "{}", 202, "", "", ""},
		{"no content", "openai", "POST", "{}", 204, "", "", ""},
		{"nothing was sent", "openai", "POST", "", 200, "", "", ""},
		{"a page that is asked for", "openai", "GET", "", 200, "text/html", page, ""},
		{"an earlier call that failed", "openai", "GET", "", 200, asJSON, `{"id":"resp_1","status":"failed","error":{"code":"server_error","message":"no"}}`, ""},
		{"an error that is asked for", "openai", "GET", "", 200, asJSON, `{"error":{"code":"server_error","message":"no"}}`, "status"},
		{"a call that failed", "openai", "POST", "{}", 200, asJSON, `{"id":"resp_1","status":"failed","error":{"code":"server_error","message":"no"}}`, "status"},
		{"a head", "openai", "HEAD", "", 200, asJSON, "", ""},
		{"text", "openai", "POST", "{}", 200, "text/plain", "<v Roger> WEBVTT", ""},
		{"speech", "openai", "POST", "{}", 200, "audio/mpeg", "<ID3", ""},
		{"a file", "openai", "POST", "{}", 200, "application/octet-stream", "<abc>", ""},
		{"a notification", "jsonrpc", "POST", notices, 200, asJSON, "", ""},
		{"a refused page", "openai", "POST", "{}", 400, "text/html", page, ""},
		{"a stream without content", "openai", "POST", "{}", 200, events, "data: [DONE]\n\n", ""},
		{"no api", "", "POST", "{}", 200, "text/html", page, ""},
		{"nothing, no api", "", "POST", "{}", 200, "", "", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				api := ""
				if test.api != "" {
					api = "api " + test.api
				}
				l := openLab(t, "failover {\nname lab\n"+api+"\nendpoint http://one:1 {\nname one\n}\nendpoint http://two:1 {\nname two\n}\n}")
				defer l.close()
				l.on("one:1", func(r *http.Request) (*http.Response, error) {
					resp := respond(r, test.status, test.body, "Content-Type", test.kind)
					if r.Method == http.MethodHead {
						resp.Body = http.NoBody
					}
					return resp, nil
				})
				want, asked := test.body, []string{"one:1"}
				if test.outcome != "" {
					want, asked = "OK", []string{"one:1", "two:1"}
				}
				w := l.call(test.method, "/v1/x", test.asked)
				if w.Body.String() != want {
					t.Errorf("the client gets %d %q", w.Code, w.Body)
				}
				if got := l.takeAsked(); !slices.Equal(got, asked) {
					t.Errorf("asked: %v", got)
				}
				synctest.Wait()
				if got := l.endpoint("one").status().LastOutcomes; test.outcome != "" && !slices.Equal(got, []string{test.outcome}) {
					t.Errorf("the outcomes are %v", got)
				}
				if test.outcome == "" {
					return
				}
				for range 100 {
					time.Sleep(50 * time.Millisecond)
					l.call(test.method, "/v1/x", test.asked)
				}
				if n := len(slices.DeleteFunc(l.takeAsked(), func(host string) bool { return host != "one:1" })); n > 40 {
					t.Errorf("it has %d of the next 100 calls", n)
				}
				l.endpoint("two").order("trip", "")
				synctest.Wait()
				if w := l.call(test.method, "/v1/x", test.asked); w.Code == 200 && w.Body.String() != test.body {
					t.Errorf("without another endpoint the client gets %q", w.Body)
				}
			})
		})
	}
}

// TestBlanksAreNoAnswer has an endpoint that sends blanks instead of JSON, to keep the connection alive. They do
// not count as its first byte.
func TestBlanksAreNoAnswer(t *testing.T) {
	for _, options := range []string{"api openai", "api jsonrpc", "commit first_byte"} {
		synctest.Test(t, func(t *testing.T) {
			l := openLab(t, "failover {\nname lab\ntimeout 20s\nretry {\nmethods any\n}\n"+options+"\nendpoint http://one:1 {\nname one\n}\nendpoint http://two:1 {\nname two\n}\n}")
			defer l.close()
			l.on("one:1", func(r *http.Request) (*http.Response, error) {
				_, _ = io.Copy(io.Discard, r.Body)
				resp := streamOf(r, func(ctx context.Context, w io.Writer) error {
					for range 60 {
						if _, err := io.WriteString(w, "\n"); err != nil {
							return err
						}
						if err := pauseFor(ctx, time.Second); err != nil {
							return err
						}
					}
					_, err := io.WriteString(w, `{"result":1}`)
					return err
				})
				resp.Header.Set("Content-Type", "application/json")
				return resp, nil
			})
			began := time.Now()
			if w := l.call(http.MethodPost, "/", `{"id":1}`); strings.TrimSpace(w.Body.String()) != "OK" || time.Since(began) > 21*time.Second {
				t.Errorf("%s: after %v the client gets %q", options, time.Since(began), w.Body)
			}
			synctest.Wait()
			if got := l.endpoint("one").status().LastOutcomes; !slices.Equal(got, []string{"timeout"}) {
				t.Errorf("%s: the outcomes are %v", options, got)
			}
		})
	}
}

// TestAResponseThatBreaksWhileItIsExamined has responses that break off before their rules are decided, so that
// the client has got nothing of them. The call moves on whatever `commit` says.
func TestAResponseThatBreaksWhileItIsExamined(t *testing.T) {
	for _, test := range []struct{ options, kind, body string }{
		{"api openai", "application/json", `{"choices":[{"mess`},
		{"api openai", "text/event-stream", ": ping\n\n"},
		{"api openai\ncommit headers", "application/json", `{"choices":[{"mess`},
		{"next_on 200 overloaded", "text/plain", "some text"},
		{"answer 200 json error.code x as failure\ncommit first_byte", "application/json", `{"a":`},
	} {
		synctest.Test(t, func(t *testing.T) {
			l := openLab(t, "failover {\nname lab\n"+test.options+"\nendpoint http://one:1 {\nname one\n}\nendpoint http://two:1 {\nname two\n}\n}")
			defer l.close()
			l.on("one:1", func(r *http.Request) (*http.Response, error) {
				resp := respond(r, http.StatusOK, "", "Content-Type", test.kind)
				resp.Body, resp.ContentLength = io.NopCloser(io.MultiReader(strings.NewReader(test.body), brokenBy{errCut})), -1
				return resp, nil
			})
			if w := l.call(http.MethodGet, "/", ""); w.Body.String() != "OK" {
				t.Errorf("%s: the client gets %d %q", test.options, w.Code, w.Body)
			}
			synctest.Wait()
			if one := l.endpoint("one").status(); !slices.Equal(one.LastOutcomes, []string{"truncated"}) || one.InFlight != 0 {
				t.Errorf("%s: the outcomes are %v; %d in flight", test.options, one.LastOutcomes, one.InFlight)
			}
		})
	}
}
