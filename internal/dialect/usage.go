package dialect

import "slices"

// Usage names the JSON fields in which an API's requests and responses state tokens. Each path is a
// list of field names. The zero value has none.
type Usage struct {
	// Total are the paths of a response's total.
	Total [][]string
	// Parts are the paths of parts that add up to the total. Each part may be at several paths.
	Parts [][][]string
	// Most are the paths at which a request limits the tokens of its response.
	Most [][]string
}

// IsZero reports whether the API's responses state no tokens.
func (u *Usage) IsZero() bool { return len(u.Total) == 0 && len(u.Parts) == 0 }

// usageOfOpenAI: `usage.total_tokens` of a response, of the last event of a stream (if the request
// has stream_options.include_usage), and of the event response.completed.
//
//   - https://platform.openai.com/docs/api-reference/chat/object
//   - https://platform.openai.com/docs/api-reference/chat-streaming
//   - https://platform.openai.com/docs/api-reference/responses-streaming/response/completed
//   - max_completion_tokens, max_tokens before it: https://platform.openai.com/docs/api-reference/chat/create
//   - max_output_tokens: https://platform.openai.com/docs/api-reference/responses/create
var usageOfOpenAI = Usage{
	Total: [][]string{{"usage", "total_tokens"}, {"response", "usage", "total_tokens"}},
	Parts: [][][]string{
		{{"usage", "prompt_tokens"}, {"usage", "input_tokens"}, {"response", "usage", "input_tokens"}},
		{{"usage", "completion_tokens"}, {"usage", "output_tokens"}, {"response", "usage", "output_tokens"}},
	},
	Most: [][]string{{"max_completion_tokens"}, {"max_tokens"}, {"max_output_tokens"}},
}

// usageOfAnthropic: `usage` of a response or, in a stream, of the events message_start and
// message_delta, whose counts are cumulative.
//
//   - https://docs.claude.com/en/api/messages
//   - https://docs.claude.com/en/docs/build-with-claude/streaming#event-types
//   - input_tokens leaves out tokens of the cache: https://docs.claude.com/en/docs/build-with-claude/prompt-caching
var usageOfAnthropic = Usage{
	Parts: [][][]string{
		inMessage("input_tokens"), inMessage("output_tokens"),
		inMessage("cache_creation_input_tokens"), inMessage("cache_read_input_tokens"),
	},
	Most: [][]string{{"max_tokens"}},
}

func inMessage(name string) [][]string {
	return [][]string{{"usage", name}, {"message", "usage", name}}
}

// usageOfGemini: `usageMetadata` of a response or of each part of a stream; its counts are
// cumulative.
//
//   - https://ai.google.dev/api/generate-content#UsageMetadata
//   - https://ai.google.dev/api/generate-content#v1beta.GenerationConfig
var usageOfGemini = Usage{
	Total: [][]string{{"usageMetadata", "totalTokenCount"}},
	Parts: [][][]string{{{"usageMetadata", "promptTokenCount"}}, {{"usageMetadata", "candidatesTokenCount"}}},
	Most:  [][]string{{"generationConfig", "maxOutputTokens"}, {"generation_config", "max_output_tokens"}},
}

// AnyUsage returns the paths of all these APIs together.
func AnyUsage() (any Usage) {
	for _, u := range []*Usage{&usageOfOpenAI, &usageOfAnthropic, &usageOfGemini} {
		any.Total = append(any.Total, u.Total...)
		any.Most = append(any.Most, u.Most...)
	}
	// usage.input_tokens and usage.output_tokens are OpenAI's and Anthropic's: name them once.
	any.Parts = [][][]string{
		slices.Concat(usageOfOpenAI.Parts[0], usageOfAnthropic.Parts[0][1:]),
		slices.Concat(usageOfOpenAI.Parts[1], usageOfAnthropic.Parts[1][1:]),
		usageOfAnthropic.Parts[2], usageOfAnthropic.Parts[3],
		usageOfGemini.Parts[0], usageOfGemini.Parts[1],
	}
	return any
}
