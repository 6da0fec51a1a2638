package dialect

import "slices"

// Usage is where calls of an API speak of the tokens that they use. Each path is the names of
// fields of a JSON body. The zero value: nowhere.
type Usage struct {
	// Total is where an answer states all tokens of its call.
	Total [][]string
	// Parts are where it states parts, which add up to all. Each part has several places.
	Parts [][][]string
	// Most is where a request says how many tokens its answer may have.
	Most [][]string
}

// IsZero reports whether the API's calls do not speak of tokens.
func (u *Usage) IsZero() bool { return len(u.Total) == 0 && len(u.Parts) == 0 }

// usageOfOpenAI: `usage.total_tokens`, also of the last event of a stream that has
// stream_options.include_usage, and of the event response.completed.
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

// usageOfAnthropic: `usage` of an answer that is no stream; of a stream that of message_start and
// of message_delta, whose counts are cumulative.
//
//   - https://docs.claude.com/en/api/messages
//   - https://docs.claude.com/en/docs/build-with-claude/streaming#event-types
//   - What the cache brings is not in input_tokens: https://docs.claude.com/en/docs/build-with-claude/prompt-caching
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

// usageOfGemini: `usageMetadata` of each part of a stream counts on.
//
//   - https://ai.google.dev/api/generate-content#UsageMetadata
//   - https://ai.google.dev/api/generate-content#v1beta.GenerationConfig
var usageOfGemini = Usage{
	Total: [][]string{{"usageMetadata", "totalTokenCount"}},
	Parts: [][][]string{{{"usageMetadata", "promptTokenCount"}}, {{"usageMetadata", "candidatesTokenCount"}}},
	Most:  [][]string{{"generationConfig", "maxOutputTokens"}, {"generation_config", "max_output_tokens"}},
}

// AnyUsage is where the calls of any of these APIs speak of tokens.
func AnyUsage() (any Usage) {
	for _, u := range []*Usage{&usageOfOpenAI, &usageOfAnthropic, &usageOfGemini} {
		any.Total = append(any.Total, u.Total...)
		any.Most = append(any.Most, u.Most...)
	}
	// OpenAI's and Anthropic's names are in part the same.
	any.Parts = [][][]string{
		slices.Concat(usageOfOpenAI.Parts[0], usageOfAnthropic.Parts[0][1:]),
		slices.Concat(usageOfOpenAI.Parts[1], usageOfAnthropic.Parts[1][1:]),
		usageOfAnthropic.Parts[2], usageOfAnthropic.Parts[3],
		usageOfGemini.Parts[0], usageOfGemini.Parts[1],
	}
	return any
}
