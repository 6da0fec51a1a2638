package lab

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

const (
	asJSON = "application/json"
	asSSE  = "text/event-stream"
)

// left returns how much of the endpoint's first limit is left.
func (e endpoint) left() int64 {
	e.l.t.Helper()
	var s struct{ Limits []struct{ Left int64 } }
	admin(e.l.t, http.MethodGet, "pools/lab/endpoints/"+e.name, "", &s)
	if len(s.Limits) == 0 {
		e.l.t.Fatalf("%s has no limit", e.name)
	}
	return s.Limits[0].Left
}

// slowly is a body that arrives piece by piece.
type slowly struct {
	ctx    context.Context
	pieces []string
	pause  time.Duration
}

func (s *slowly) Read(p []byte) (int, error) {
	if len(s.pieces) == 0 {
		return 0, io.EOF
	}
	if err := pauseFor(s.ctx, s.pause); err != nil {
		return 0, err
	}
	n := copy(p, s.pieces[0])
	if s.pieces[0] = s.pieces[0][n:]; s.pieces[0] == "" {
		s.pieces = s.pieces[1:]
	}
	return n, nil
}

func (*slowly) Close() error { return nil }

// streams answers piece by piece, with a pause between pieces.
func streams(r *http.Request, kind string, pause time.Duration, pieces ...string) *http.Response {
	resp := respond(r, http.StatusOK, "", "Content-Type", kind)
	resp.Body, resp.ContentLength = &slowly{r.Context(), pieces, pause}, -1
	return resp
}

// TestALimitOfTokensUsesWhatIsGranted checks that calls use the provider's grant of tokens within 5 % over
// five minutes, whatever they ask for and however answers come; the rest goes to the next endpoint.
func TestALimitOfTokensUsesWhatIsGranted(t *testing.T) {
	const grant, minutes = 60000, 5
	for name, test := range map[string]struct {
		request string
		takes   time.Duration
	}{
		"calls that ask for the most": {`{"stream":true,"max_tokens":4000,"messages":[]}`, 2 * time.Second},
		"calls that ask for nothing":  {`{"stream":true,"messages":[]}`, 8 * time.Second},
		"calls that ask for too much": {`{"stream":true,"messages":[],"max_completion_tokens":16000}`, 4 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := openLab(t, fmt.Sprintf("failover {\nname lab\napi openai\nendpoint http://granted:1 {\nlimit %d tokens per 1m\nlimit 100000 requests per 1m\n}\nendpoint http://next:1\n}", grant))
				defer l.close()
				var mu sync.Mutex
				random := rand.New(rand.NewPCG(5, 6))
				used := 0
				l.on("granted:1", func(r *http.Request) (*http.Response, error) {
					_, _ = io.Copy(io.Discard, r.Body)
					mu.Lock()
					defer mu.Unlock()
					tokens := 50 + random.IntN(3951)
					used += tokens
					return streams(r, asSSE, test.takes/4,
						"data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}],\"usage\":null}\n\n",
						"data: {\"choices\":[{\"delta\":{\"content\":\"b\"}}]}\n\ndata: {\"choices\":[],\"usa",
						fmt.Sprintf("ge\":{\"total_tokens\":%d}}\n\n", tokens), "data: [DONE]\n\n"), nil
				})
				next := 0
				l.on("next:1", func(r *http.Request) (*http.Response, error) {
					mu.Lock()
					next++
					mu.Unlock()
					return respond(r, http.StatusOK, "{}"), nil
				})
				var wg sync.WaitGroup
				for range 20 * 60 * minutes {
					time.Sleep(50 * time.Millisecond)
					wg.Go(func() {
						if got := l.call(http.MethodPost, "/v1/chat/completions", test.request, "Content-Type", asJSON); got.Code != http.StatusOK {
							t.Errorf("a call got %d", got.Code)
						}
					})
				}
				wg.Wait()
				part := float64(used) / (minutes * grant)
				t.Logf("%.3f of the grant used, %d calls went on", part, next)
				if part < 0.95 || part > 1.05 || next < 1000 {
					t.Errorf("%.3f of the grant used, %d calls went on", part, next)
				}
				if s := l.endpoint("granted:1").status(); s.State != "closed" || s.Failures > 0 {
					t.Errorf("the endpoint is %+v", s)
				}
			})
		})
	}
}

func gzipped(text string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = io.WriteString(w, text)
	_ = w.Close()
	return b.String()
}

// TestTokensArePutRight checks that the usage that an answer states, in any form, replaces what was booked.
func TestTokensArePutRight(t *testing.T) {
	long := strings.Repeat("word ", 100000)
	for _, test := range []struct {
		name, api, request string
		answer             roundTrip
		used               int64
	}{
		{"a document", "openai", `{"max_tokens":500}`, says(asJSON, `{"choices":[{"message":{"content":"`+long+`"}}],"usage":{"total_tokens":70}}`), 70},
		{"a zipped document", "openai", `{"max_tokens":500}`, says(asJSON, gzipped(`{"choices":[{"message":{"content":"`+long+`"}}],"usage":{"total_tokens":70}}`), "Content-Encoding", "gzip"), 70},
		{"a response's stream", "openai", `{"max_output_tokens":500,"stream":true}`, says(asSSE, "data: {\"type\":\"response.created\"}\n\ndata: {\"type\":\"response.completed\",\"response\":{\"output\":\""+long+"\",\"usage\":{\"total_tokens\":70}}}\n\n"), 70},
		{"a zipped stream", "openai", `{"max_tokens":500,"stream":true}`, says(asSSE, gzipped("data: {\"choices\":[]}\n\ndata: {\"usage\":{\"total_tokens\":70}}\n\n"), "Content-Encoding", "x-gzip"), 70},
		{"more than was booked", "openai", `{"max_tokens":100}`, says(asJSON, `{"usage":{"total_tokens":700}}`), 700},
		{"a stream without usage", "openai", `{"max_tokens":500,"stream":true}`, says(asSSE, "data: {\"choices\":[]}\n\ndata: [DONE]\n\n"), 508},
		{"another coding", "openai", `{"max_tokens":500}`, says(asJSON, "???", "Content-Encoding", "br"), 504},
		{"a message", "anthropic", `{"max_tokens":500}`, says(asJSON, `{"type":"message","usage":{"input_tokens":10,"output_tokens":50,"cache_creation_input_tokens":3,"cache_read_input_tokens":7}}`), 70},
		{"a message's stream", "anthropic", `{"max_tokens":500,"stream":true}`, says(asSSE, "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":20,\"output_tokens\":1}}}\n\n"+
			"event: message_delta\ndata: {\"type\":\"message_delta\",\"usage\":{\"output_tokens\":50}}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"), 70},
		{"generated content", "gemini", `{"generationConfig":{"maxOutputTokens":500}}`, says(asJSON, `{"candidates":[],"usageMetadata":{"promptTokenCount":9,"totalTokenCount":70}}`), 70},
		{"a list as a stream", "gemini", `{"generationConfig":{"maxOutputTokens":500}}`, says(asJSON, `[{"usageMetadata":{"totalTokenCount":9}},{"usageMetadata":{"totalTokenCount":70}}]`), 70},
		{"no API", "", `{"max_tokens":500}`, says(asJSON, `{"usage":{"total_tokens":70}}`), 70},
		{"no account in the request", "openai", `{}`, says(asJSON, `{"usage":{"total_tokens":70}}`), 70},
		{"a refused connection", "openai", `{"max_tokens":500}`, refusesConnections, 0},
		{"a status of an error", "openai", `{"max_tokens":500}`, answersWith(http.StatusServiceUnavailable), 0},
		{"a limit of the provider", "openai", `{"max_tokens":500}`, answersWith(http.StatusTooManyRequests), 0},
		{"an error in a 200", "openai", `{"max_tokens":500,"stream":true}`, says(asSSE, "data: {\"error\":{\"code\":\"rate_limit_exceeded\"}}\n\n"), 0},
		{"the call's mistake", "openai", `{"max_tokens":500}`, answersWith(http.StatusBadRequest), 0},
		{"an answer that is cut", "anthropic", `{"max_tokens":500}`, func(r *http.Request) (*http.Response, error) {
			resp, _ := says(asSSE, "")(r)
			resp.Body = io.NopCloser(io.MultiReader(strings.NewReader("data: {\"message\":{\"usage\":{\"input_tokens\":20}}}\n\n"), cutReader{}))
			return resp, nil
		}, 504},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				api := ""
				if test.api != "" {
					api = "api " + test.api + "\n"
				}
				l := openLab(t, "failover {\nname lab\n"+api+"quota endpoint\nendpoint http://one:1 {\nlimit 1000 tokens per 1h burst 1000\n}\nendpoint http://two:1\n}")
				defer l.close()
				l.on("one:1", test.answer)
				func() {
					defer func() {
						if broken := recover(); broken != nil && broken != http.ErrAbortHandler {
							panic(broken)
						}
					}()
					l.call(http.MethodPost, "/", test.request, "Content-Type", asJSON)
				}()
				if asked := l.takeAsked(); len(asked) == 0 || asked[0] != "one:1" {
					t.Fatalf("%v were asked", asked)
				}
				if left := l.endpoint("one:1").left(); left != 1000-test.used {
					t.Errorf("%d tokens are used, want %d", 1000-left, test.used)
				}
			})
		})
	}
}

type cutReader struct{}

func (cutReader) Read([]byte) (int, error) { return 0, errCut }

// says answers 200 with a body.
func says(kind, body string, header ...string) roundTrip {
	return func(r *http.Request) (*http.Response, error) {
		return respond(r, http.StatusOK, body, append([]string{"Content-Type", kind}, header...)...), nil
	}
}

// TestTokensAreBookedAhead checks that no other call gets the tokens that a call under way may use, and
// that this does not change when its client leaves.
func TestTokensAreBookedAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := openLab(t, "failover {\nname lab\napi openai\nendpoint http://one:1 {\nlimit 1000 tokens per 1h burst 1000\n}\nendpoint http://two:1\n}")
		defer l.close()
		l.on("one:1", hangs)
		ctx, leave := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			l.callWith(ctx, http.MethodPost, "/", `{"max_tokens":600}`, "Content-Type", asJSON)
		}()
		synctest.Wait()
		want := func(left int64, asked ...string) {
			t.Helper()
			l.on("two:1", says(asJSON, `{}`))
			l.call(http.MethodPost, "/", `{"max_tokens":600}`, "Content-Type", asJSON)
			if got := l.takeAsked(); fmt.Sprint(got) != fmt.Sprint(asked) {
				t.Errorf("%v were asked, want %v", got, asked)
			}
			if got := l.endpoint("one:1").left(); got != left {
				t.Errorf("%d are left, want %d", got, left)
			}
		}
		want(396, "one:1", "two:1")
		leave()
		<-done
		want(396, "two:1")
		time.Sleep(time.Hour)
		l.on("one:1", says(asJSON, `{"usage":{"total_tokens":5}}`))
		want(995, "one:1")
	})
}
