package llm

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
)

// Whole counts what programs with an official client get.
type Whole struct {
	Client string   `json:"client"`
	Stream bool     `json:"stream"`
	Right  int      `json:"right"` // whole answers, and the refusal of S13
	Of     int      `json:"of"`
	Wrong  []string `json:"wrong,omitempty"`
}

// clients asks a system for each model with the official clients, except those of long outages.
func (s *system) clients(ctx context.Context, l launcher) ([]Whole, error) {
	headers := make(map[string]map[string]map[string]string)
	of := make(map[string]fault)
	var models []string
	for _, api := range []string{"openai", "anthropic"} {
		headers[api] = make(map[string]map[string]string)
		for _, f := range faults {
			if s.kind.header != nil {
				headers[api][f.model] = s.kind.header(s.provider, api, f.model, f.fallbackModel())
			}
			if _, ok := of[f.model]; !ok && !f.sequence {
				of[f.model] = f
				models = append(models, f.model)
			}
		}
	}
	text, err := json.Marshal(headers)
	if err != nil {
		return nil, err
	}
	ask := exec.CommandContext(ctx, "node", append([]string{"ask.js", s.url, "http://" + s.provider.Address, string(text)}, models...)...)
	ask.Dir = l.npm
	output, err := ask.Output()
	if err != nil {
		return nil, fmt.Errorf("asking %s: %w", s.Name, err)
	}
	var list []Whole
	for line := range strings.Lines(string(output)) {
		var got struct {
			Client, Model, Text, Error string
			Stream                     bool
		}
		if err := json.Unmarshal([]byte(line), &got); err != nil {
			return nil, fmt.Errorf("%s: %w", line, err)
		}
		if n := len(list); n == 0 || list[n-1].Client != got.Client || list[n-1].Stream != got.Stream {
			list = append(list, Whole{Client: got.Client, Stream: got.Stream})
		}
		w, f := &list[len(list)-1], of[got.Model]
		w.Of++
		whole := got.Error == "" && strings.Join(strings.Fields(got.Text), " ") == canonical
		if whole != f.refusal {
			w.Right++
			continue
		}
		w.Wrong = append(w.Wrong, f.ID)
	}
	return list, nil
}
