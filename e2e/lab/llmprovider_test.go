package lab

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"time"
)

// llmAnswer is the text of every whole answer: sixty words.
var llmAnswer = strings.TrimSpace(strings.Repeat("Any provider may fail while it still says that all is well. ", 5))

// An llmProvider speaks like OpenAI, and fails by the model that it is asked for. It notes what it
// is asked.
type llmProvider struct {
	mu    sync.Mutex
	began time.Time
	asked []llmAsked
}

// llmAsked is an attempt as the provider sees it.
type llmAsked struct {
	at     time.Duration
	model  string
	status int // 0: no answer
}

// reset forgets what the provider was asked. Faults that last a while begin anew.
func (p *llmProvider) reset() {
	p.mu.Lock()
	p.began, p.asked = time.Now(), nil
	p.mu.Unlock()
}

// askedFor is what the provider was asked for a model.
func (p *llmProvider) askedFor(model string) (list []llmAsked) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, one := range p.asked {
		if one.model == model {
			list = append(list, one)
		}
	}
	return list
}

const (
	llmFirstToken = 20 * time.Second // of a provider that is slow to begin
	llmStall      = 30 * time.Second
	llmSilence    = 120 * time.Second
	llmDown       = 60 * time.Second // of a provider that comes back
	llmToken      = 15 * time.Millisecond
)

func (p *llmProvider) roundTrip(r *http.Request) (*http.Response, error) {
	var asked struct {
		Model    string
		Stream   bool
		Messages []struct{ Role string }
	}
	if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
		return nil, err
	}
	r.Body.Close()
	p.mu.Lock()
	p.asked = append(p.asked, llmAsked{time.Since(p.began), asked.Model, 0})
	note, attempt, down := len(p.asked)-1, 0, time.Since(p.began) < llmDown
	for _, one := range p.asked {
		if one.model == asked.Model {
			attempt++
		}
	}
	p.mu.Unlock()
	says := func(status int) {
		p.mu.Lock()
		if note < len(p.asked) {
			p.asked[note].status = status
		}
		p.mu.Unlock()
	}
	refuse := func(status int, kind, code string, header ...string) (*http.Response, error) {
		says(status)
		body := fmt.Sprintf(`{"error":{"message":"no","type":%q,"param":null,"code":%q}}`, kind, code)
		return respond(r, status, body, append(header, "Content-Type", "application/json")...), nil
	}
	name, _, _ := strings.Cut(asked.Model, "-")
	switch {
	case name == "s01" && attempt == 1:
		return refuse(http.StatusTooManyRequests, "rate_limit_error", "rate_limit_exceeded", "Retry-After", "2")
	case name == "s02":
		return refuse(http.StatusTooManyRequests, "rate_limit_error", "rate_limit_exceeded")
	case name == "s03" && attempt == 1:
		return refuse(http.StatusInternalServerError, "server_error", "")
	case name == "s04" || name == "s16" || name == "s15" && down:
		return refuse(http.StatusServiceUnavailable, "server_error", "overloaded")
	case name == "s05" && attempt == 1:
		return nil, fmt.Errorf("read: %w", syscall.ECONNRESET)
	case name == "s06":
		if err := pauseFor(r.Context(), llmSilence); err != nil {
			return nil, err
		}
		return nil, errors.New("http: server closed the connection")
	case name == "s12":
		return refuse(http.StatusBadRequest, "invalid_request_error", "context_length_exceeded")
	case name == "s13":
		return refuse(http.StatusBadRequest, "invalid_request_error", "content_policy_violation")
	case asked.Model == "fb-ok-noprefill" && asked.Messages[len(asked.Messages)-1].Role == "assistant":
		return refuse(http.StatusBadRequest, "invalid_request_error", "invalid_prefill")
	}
	says(http.StatusOK)
	if asked.Stream {
		return streamOf(r, func(ctx context.Context, w io.Writer) error { return p.stream(ctx, w, name, asked.Model) }), nil
	}
	return p.whole(r, name, asked.Model)
}

// whole answers with a JSON document.
func (p *llmProvider) whole(r *http.Request, fault, model string) (*http.Response, error) {
	body := fmt.Sprintf(`{"id":"1","object":"chat.completion","model":%q,"choices":[{"index":0,"message":{"role":"assistant","content":%q},"finish_reason":"stop"}],"usage":{"total_tokens":81}}`,
		model, llmAnswer)
	if fault == "s07" {
		if err := pauseFor(r.Context(), llmFirstToken); err != nil {
			return nil, err
		}
	}
	if fault == "s10" {
		body = body[:len(body)/2] + `"oops`
	}
	resp := respond(r, http.StatusOK, body, "Content-Type", "application/json")
	switch fault {
	case "s08", "s14":
		resp.Body = io.NopCloser(io.MultiReader(strings.NewReader(body[:len(body)*6/10]), brokenBy{io.ErrUnexpectedEOF}))
	case "s09":
		piped := streamOf(r, func(ctx context.Context, _ io.Writer) error {
			if err := pauseFor(ctx, llmStall); err != nil {
				return err
			}
			return io.ErrUnexpectedEOF
		})
		resp.Body = piped.Body
	}
	return resp, nil
}

// stream writes the events of an answer.
func (p *llmProvider) stream(ctx context.Context, w io.Writer, fault, model string) error {
	say := func(choices, more string) error {
		_, err := fmt.Fprintf(w, "data: {\"id\":\"1\",\"object\":\"chat.completion.chunk\",\"model\":%q,\"choices\":[%s]%s}\n\n", model, choices, more)
		return err
	}
	if fault == "s07" {
		if err := pauseFor(ctx, llmFirstToken); err != nil {
			return err
		}
	}
	if err := say(`{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}`, ""); err != nil {
		return err
	}
	for i, word := range strings.Fields(llmAnswer) {
		switch {
		case (fault == "s08" || fault == "s14") && i == 40:
			return io.ErrUnexpectedEOF
		case fault == "s09" && i == 20:
			if err := pauseFor(ctx, llmStall); err != nil {
				return err
			}
			return io.ErrUnexpectedEOF
		case fault == "s10" && i == 10:
			if _, err := io.WriteString(w, "data: {\"id\":\"1\",\"choices\":[{\"delta\":{\"content\": \n\n"); err != nil {
				return err
			}
		}
		if err := say(fmt.Sprintf(`{"index":0,"delta":{"content":%q},"finish_reason":null}`, word+" "), ""); err != nil {
			return err
		}
		if err := pauseFor(ctx, llmToken); err != nil {
			return err
		}
	}
	if err := say(`{"index":0,"delta":{},"finish_reason":"stop"}`, ""); err != nil {
		return err
	}
	if err := say("", `,"usage":{"total_tokens":81}`); err != nil {
		return err
	}
	if fault != "s11" {
		_, err := io.WriteString(w, "data: [DONE]\n\n")
		return err
	}
	return nil
}

// brokenBy is a body that breaks.
type brokenBy struct{ err error }

func (f brokenBy) Read([]byte) (int, error) { return 0, f.err }

// streamOf is a 200 whose body write writes; its error is how the body breaks off.
func streamOf(r *http.Request, write func(context.Context, io.Writer) error) *http.Response {
	resp := respond(r, http.StatusOK, "", "Content-Type", "text/event-stream")
	from, to := io.Pipe()
	resp.Body, resp.ContentLength = from, -1
	stop := context.AfterFunc(r.Context(), func() { from.CloseWithError(r.Context().Err()) })
	go func() {
		err := write(r.Context(), to)
		stop()
		to.CloseWithError(err)
	}()
	return resp
}

// An llmResult is what a careful client makes of an answer.
type llmResult struct {
	text, model string
	usage       bool
	err         error // nil: the program takes the answer for a good one
	took        time.Duration
}

// askLLM asks for a completion, as a client that skips events that are no JSON.
func (l *lab) askLLM(model string, stream bool) (got llmResult) {
	began := time.Now()
	defer func() { got.took = time.Since(began) }()
	defer func() {
		if recovered := recover(); recovered == http.ErrAbortHandler {
			got.err = errors.New("the connection was aborted")
		} else if recovered != nil {
			panic(recovered)
		}
	}()
	w := l.call(http.MethodPost, "/v1/chat/completions",
		fmt.Sprintf(`{"model":%q,"stream":%t,"messages":[{"role":"user","content":"why?"}]}`, model, stream), "Content-Type", "application/json")
	if w.Code != http.StatusOK {
		return llmResult{err: fmt.Errorf("status %d: %s", w.Code, w.Body)}
	}
	if !stream {
		got.err = got.add(w.Body.Bytes())
		return got
	}
	for lines := bufio.NewScanner(w.Body); lines.Scan(); {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if ok && data != "[DONE]" {
			if err := got.add([]byte(data)); err != nil && !errors.As(err, new(*json.SyntaxError)) {
				got.err = err
			}
		}
	}
	return got
}

// add takes a chunk, or a whole completion.
func (got *llmResult) add(chunk []byte) error {
	var said struct {
		Model   string
		Usage   *struct{}
		Error   json.RawMessage
		Choices []struct{ Delta, Message struct{ Content string } }
	}
	if err := json.Unmarshal(chunk, &said); err != nil {
		return err
	}
	if said.Error != nil {
		return fmt.Errorf("an error in a 200: %s", said.Error)
	}
	got.model, got.usage = said.Model, got.usage || said.Usage != nil
	for _, c := range said.Choices {
		got.text += c.Delta.Content + c.Message.Content
	}
	got.text = strings.TrimLeft(got.text, " ")
	return nil
}

// whole reports whether the program got the whole answer.
func (got llmResult) whole() bool { return got.err == nil && strings.TrimSpace(got.text) == llmAnswer }
