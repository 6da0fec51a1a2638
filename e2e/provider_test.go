package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// A provider is a mock of an LLM API: OpenAI's chat completions and Anthropic's messages, streaming and
// not. If it is faulty, the request's model names the fault. The model "content-filter" is refused by all providers.
type provider struct {
	*api
	faulty bool

	mu    sync.Mutex
	asked map[string]int       // number of requests, by model
	first map[string]time.Time // time of the first request, by model
}

// newProvider starts a provider.
func newProvider(t testing.TB, name string, faulty bool) *provider {
	t.Helper()
	p := &provider{api: newAPI(t, name), faulty: faulty, asked: make(map[string]int), first: make(map[string]time.Time)}
	p.behave(p.serve)
	return p
}

// times returns how many requests there were for a model.
func (p *provider) times(model string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked[model]
}

// completion has the fields of a request that providers read.
type completion struct {
	Model  string `json:"model"`
	Stream bool   `json:"stream"`
}

func (p *provider) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	var c completion
	if err := json.Unmarshal(body, &c); err != nil {
		http.Error(w, `{"error":{"message":"not JSON"}}`, http.StatusBadRequest)
		return
	}
	p.mu.Lock()
	p.asked[c.Model]++
	n := p.asked[c.Model]
	if n == 1 {
		p.first[c.Model] = time.Now()
	}
	first := p.first[c.Model]
	p.mu.Unlock()

	anthropic := strings.HasSuffix(r.URL.Path, "/messages")
	if c.Model == "content-filter" {
		refuse(w, anthropic, http.StatusBadRequest, "content_filter")
		return
	}
	if !p.faulty {
		p.answerWell(w, r, anthropic, c, "")
		return
	}
	switch c.Model {
	case "429":
		refuse(w, anthropic, http.StatusTooManyRequests, "rate_limit_exceeded")
	case "429-retry-after":
		w.Header().Set("Retry-After", "60")
		refuse(w, anthropic, http.StatusTooManyRequests, "rate_limit_exceeded")
	case "500-once":
		if n == 1 {
			refuse(w, anthropic, http.StatusInternalServerError, "server_error")
			return
		}
		p.answerWell(w, r, anthropic, c, "")
	case "503":
		refuse(w, anthropic, http.StatusServiceUnavailable, "overloaded")
	case "reset":
		cut(w, r)
	case "silence":
		silent(w, r)
	case "headers-silence":
		announce(w, c.Stream)
		silent(w, r)
	case "context-length":
		refuse(w, anthropic, http.StatusBadRequest, "context_length_exceeded")
	case "down-then-well":
		if time.Since(first) < time.Second {
			cut(w, r)
			return
		}
		p.answerWell(w, r, anthropic, c, "")
	default: // cut, stall, malformed, no-sentinel
		p.answerWell(w, r, anthropic, c, c.Model)
	}
}

func announce(w http.ResponseWriter, stream bool) {
	if stream {
		w.Header().Set("Content-Type", "text/event-stream")
	} else {
		w.Header().Set("Content-Type", "application/json")
	}
	w.WriteHeader(http.StatusOK)
	flush(w)
}

// refuse answers with an error in the API's form.
func refuse(w http.ResponseWriter, anthropic bool, status int, code string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if anthropic {
		fmt.Fprintf(w, `{"type":"error","error":{"type":%q,"message":"no"}}`, code)
		return
	}
	fmt.Fprintf(w, `{"error":{"message":"no","type":"invalid_request_error","code":%q}}`, code)
}

// words are the text of every answer, after the provider's name.
const words = "the quick brown fox jumps over the lazy dog"

// pieces returns the whole answer of a provider, in the pieces that it writes.
func (p *provider) pieces(anthropic, stream bool, fault string) []string {
	var all []string
	said := strings.Split(p.name+": "+words, " ")
	switch {
	case !stream && anthropic:
		text := fmt.Sprintf(`{"type":"message","content":[{"type":"text","text":%q}],"stop_reason":"end_turn"}`, strings.Join(said, " "))
		all = strings.SplitAfter(text, " ")
	case !stream:
		text := fmt.Sprintf(`{"object":"chat.completion","choices":[{"message":{"role":"assistant","content":%q},"finish_reason":"stop"}]}`, strings.Join(said, " "))
		all = strings.SplitAfter(text, " ")
	case anthropic:
		all = append(all, "event: message_start\ndata: {\"type\":\"message_start\"}\n\n")
		for _, word := range said {
			all = append(all, fmt.Sprintf("event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"delta\":{\"text\":%q}}\n\n", word+" "))
		}
		if fault != "no-sentinel" {
			all = append(all, "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n")
		}
	default:
		for _, word := range said {
			all = append(all, fmt.Sprintf("data: {\"object\":\"chat.completion.chunk\",\"choices\":[{\"delta\":{\"content\":%q}}]}\n\n", word+" "))
		}
		if fault != "no-sentinel" {
			all = append(all, "data: [DONE]\n\n")
		}
	}
	if fault == "malformed" {
		all[len(all)/2] = "data: {\"choices\":[{\"del\n\n"
	}
	return all
}

// whole returns the body that a client of the provider must get.
func (p *provider) whole(anthropic, stream bool, fault string) string {
	return strings.Join(p.pieces(anthropic, stream, fault), "")
}

func (p *provider) answerWell(w http.ResponseWriter, r *http.Request, anthropic bool, c completion, fault string) {
	announce(w, c.Stream)
	pieces := p.pieces(anthropic, c.Stream, fault)
	for i, piece := range pieces {
		if i == len(pieces)*2/3 {
			switch fault {
			case "cut":
				panic(http.ErrAbortHandler)
			case "stall":
				silent(w, r)
				return
			}
		}
		_, _ = io.WriteString(w, piece)
		flush(w)
	}
}

// ask sends a completion through the proxy and reads the answer to its end.
func (p *proxy) ask(anthropic, stream bool, model string) (status int, body string, err error) {
	path := "/v1/chat/completions"
	if anthropic {
		path = "/v1/messages"
	}
	request := fmt.Sprintf(`{"model":%q,"stream":%t,"messages":[{"role":"user","content":"hi"}]}`, model, stream)
	resp, err := p.do(http.MethodPost, path, strings.NewReader(request), "Content-Type", "application/json")
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text), err
}

// providers returns a site with a pool of providers. commit has further options, such as `commit complete`.
func providers(commit string, all ...*provider) string {
	apis := make([]*api, len(all))
	for i, a := range all {
		apis[i] = a.api
	}
	return site(commit+`
	timeout 700ms
	idle_timeout 600ms
	retry {
		methods any
	}`, apis...)
}
