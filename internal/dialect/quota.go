package dialect

// A Quota names the header fields, in canonical form, in which an API states a quota of Of: its amount, the
// rest, and when it is full again. If Reset is empty, Left states all three.
type Quota struct{ Of, Limit, Left, Reset string }

// quotasOfOpenAI are those of OpenAI, Azure and Groq, of OpenRouter, of Cerebras, and of Mistral, which
// states no reset.
//
//   - https://platform.openai.com/docs/guides/rate-limits#rate-limits-in-headers
//   - https://console.groq.com/docs/rate-limits#rate-limit-headers
//   - OpenRouter: https://openrouter.ai/docs/api/reference/limits
//   - https://inference-docs.cerebras.ai/support/rate-limits
//   - Mistral: https://github.com/mistralai/client-ts/issues/169
var quotasOfOpenAI = []Quota{
	{"requests", "X-Ratelimit-Limit-Requests", "X-Ratelimit-Remaining-Requests", "X-Ratelimit-Reset-Requests"},
	{"tokens", "X-Ratelimit-Limit-Tokens", "X-Ratelimit-Remaining-Tokens", "X-Ratelimit-Reset-Tokens"},
	{"requests", "X-Ratelimit-Limit", "X-Ratelimit-Remaining", "X-Ratelimit-Reset"},
	{"requests per day", "X-Ratelimit-Limit-Requests-Day", "X-Ratelimit-Remaining-Requests-Day", "X-Ratelimit-Reset-Requests-Day"},
	{"requests per minute", "X-Ratelimit-Limit-Req-Minute", "X-Ratelimit-Remaining-Req-Minute", "X-Ratelimit-Reset-Req-Minute"},
	{"tokens per minute", "X-Ratelimit-Limit-Tokens-Minute", "X-Ratelimit-Remaining-Tokens-Minute", "X-Ratelimit-Reset-Tokens-Minute"},
}

// quotasOfAnthropic are those of Anthropic, which states resets as times (RFC 3339).
// https://docs.claude.com/en/api/rate-limits#response-headers
var quotasOfAnthropic = []Quota{
	{"requests", "Anthropic-Ratelimit-Requests-Limit", "Anthropic-Ratelimit-Requests-Remaining", "Anthropic-Ratelimit-Requests-Reset"},
	{"tokens", "Anthropic-Ratelimit-Tokens-Limit", "Anthropic-Ratelimit-Tokens-Remaining", "Anthropic-Ratelimit-Tokens-Reset"},
	{"input tokens", "Anthropic-Ratelimit-Input-Tokens-Limit", "Anthropic-Ratelimit-Input-Tokens-Remaining", "Anthropic-Ratelimit-Input-Tokens-Reset"},
	{"output tokens", "Anthropic-Ratelimit-Output-Tokens-Limit", "Anthropic-Ratelimit-Output-Tokens-Remaining", "Anthropic-Ratelimit-Output-Tokens-Reset"},
}

// AnyQuotas returns quotas for an API without a dialect: the common fields, and those of the IETF's drafts, by
// which clients send nothing more while nothing is left.
//
//   - https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api#checking-the-status-of-your-rate-limit
//   - https://www.ietf.org/archive/id/draft-ietf-httpapi-ratelimit-headers-10.txt
//   - up to draft 06: https://www.ietf.org/archive/id/draft-ietf-httpapi-ratelimit-headers-06.txt
func AnyQuotas() []Quota {
	return []Quota{
		{"requests", "X-Ratelimit-Limit", "X-Ratelimit-Remaining", "X-Ratelimit-Reset"},
		{"requests", "Ratelimit-Limit", "Ratelimit-Remaining", "Ratelimit-Reset"},
		{Of: "requests", Left: "Ratelimit"},
	}
}
