package llm

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// A reply is what a careful client makes of an answer: it skips events that are no JSON, and takes an error event
// for an error.
type reply struct {
	text, model string
	usage       bool
	err         error // nil: the program takes the answer for a good one
	hang        bool  // no end within the time that the fault allows
	took        time.Duration
}

// ask asks a system for a completion, for at most longest.
func (s *system) ask(ctx context.Context, model, fallback string, stream bool, longest time.Duration) (r reply) {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, longest)
	defer cancel()
	defer func() {
		r.took = time.Since(began)
		r.hang = ctx.Err() != nil
	}()
	body := fmt.Sprintf(`{"model":%q,"stream":%t,"messages":[{"role":"user","content":"Why?"}]}`, model, stream)
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+"/v1/chat/completions", strings.NewReader(body))
	if err != nil {
		return reply{err: err}
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Authorization", "Bearer of-the-client")
	for name, value := range s.header(model, fallback) {
		request.Header.Set(name, value)
	}
	resp, err := s.client.Do(request)
	if err != nil {
		return reply{err: err}
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(resp.Body)
		return reply{err: fmt.Errorf("status %d: %s", resp.StatusCode, text)}
	}
	if !stream {
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			return reply{err: err}
		}
		r.err = r.add(text)
		return r
	}
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		data, ok := strings.CutPrefix(lines.Text(), "data:")
		if data = strings.TrimSpace(data); !ok || data == "" {
			continue
		}
		if data == "[DONE]" {
			return r
		}
		if err := r.add([]byte(data)); err != nil && !errors.As(err, new(*json.SyntaxError)) {
			r.err = err
			return r
		}
	}
	r.err = lines.Err()
	return r
}

// add takes a completion, or a chunk of one.
func (r *reply) add(chunk []byte) error {
	var said struct {
		Model   string
		Usage   *struct{}
		Error   json.RawMessage
		Choices []struct{ Delta, Message struct{ Content string } }
	}
	if err := json.Unmarshal(chunk, &said); err != nil {
		return err
	}
	if len(said.Error) > 0 && string(said.Error) != "null" {
		return fmt.Errorf("an error in a 200: %s", said.Error)
	}
	if said.Model != "" {
		r.model = said.Model
	}
	r.usage = r.usage || said.Usage != nil
	for _, c := range said.Choices {
		r.text += c.Delta.Content + c.Message.Content
	}
	return nil
}

func (r reply) whole() bool {
	return r.err == nil && strings.Join(strings.Fields(r.text), " ") == canonical
}
