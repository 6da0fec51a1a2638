// Package dialect describes APIs: how a request carries a key, where it names its model, and what
// the API's errors mean. It holds data only; other packages make rules from it.
package dialect

// A Dialect holds the settings that users of an API would otherwise configure by hand. It is
// read-only.
type Dialect struct {
	Name string

	Key   Key
	Model Place // where a request names its model
	Scope Scope // where a request says what kind of call it is

	// Commit is how much of a response must arrive before the client gets any of it: a word of the
	// option `commit`.
	Commit string
	// Method names the methods that may be sent again after any failure: a word of `retry methods`.
	Method string

	// Answers are the rules for responses, worst meaning first: the worst element of a batch counts.
	Answers []Answer
	// FirstElement limits rules to the first element of a response that is a list: such a list is a
	// stream.
	FirstElement bool

	Usage  Usage
	Quotas []Quota // that responses state

	replies func(request []byte) bool // see Replies; nil: always

	says func(*Refusal) any // returns the JSON of an error; nil: as OpenAI's
}

// A Key is how a request carries a key: the header field, and the text before the key in it.
type Key struct{ Field, Prefix string }

// A Place is a part of a request.
type Place uint8

const (
	Nowhere   Place = iota
	InBody          // the field `model` of a JSON body
	InPath          // the segment after `models`
	InService       // the path's first segment: the service of a gRPC call
)

// A Scope is where a request says what kind of call it is: the model in its path, a field of its
// JSON body, or its gRPC service.
type Scope struct {
	In    Place
	Field string
}

// An Answer gives responses that match it a meaning, in the words of the option `answer`.
type Answer struct {
	Status string // a code, a class or a range
	JSON   string // the path of a field; empty: the status is enough
	Match  string // an expression that the field must match; empty: any value but null
	As     string // failure, held, denied, next or ok

	// Unless excepts responses that match it, too; nil: none.
	Unless *Answer
	// OfQuota says that the response is about the owner of the key. It is about the endpoint only if
	// the endpoint has its own key.
	OfQuota bool
}

// Replies reports whether a good response to a POST always has a body. request is the request's body;
// nil: not known.
func (d *Dialect) Replies(request []byte) bool { return d.replies == nil || d.replies(request) }

// Names returns the words of the option `api`, in the order of the documentation.
func Names() []string {
	names := make([]string, len(table))
	for i := range table {
		names[i] = table[i].Name
	}
	return names
}

// Of returns the dialect of this name; nil: there is none.
func Of(name string) *Dialect {
	for i := range table {
		if table[i].Name == name {
			return &table[i]
		}
	}
	return nil
}

// anyStatus is every status: an API that sends 200 before it knows how a call ends puts errors into
// the body.
const anyStatus = "200-599"

// table has a row for each API.
var table = [...]Dialect{
	{
		// https://platform.openai.com/docs/api-reference/authentication
		Name: "openai", Key: Key{"Authorization", "Bearer "},
		Model: InBody, Scope: Scope{InBody, "model"}, Commit: "first_event", Method: "any",
		Answers: openai(), Usage: usageOfOpenAI, Quotas: quotasOfOpenAI,
	},
	{
		// https://docs.claude.com/en/api/overview#authentication
		Name: "anthropic", Key: Key{Field: "X-Api-Key"},
		Model: InBody, Scope: Scope{InBody, "model"}, Commit: "first_event", Method: "any",
		Answers: anthropic, Usage: usageOfAnthropic, Quotas: quotasOfAnthropic, says: saysAnthropic,
	},
	{
		// https://ai.google.dev/api#authentication; a stream without alt=sse is a list
		// https://ai.google.dev/api/generate-content#method:-models.streamgeneratecontent
		Name: "gemini", Key: Key{Field: "X-Goog-Api-Key"},
		Model: InPath, Scope: Scope{In: InPath}, Commit: "first_event", Method: "any",
		Answers: gemini, FirstElement: true, Usage: usageOfGemini, says: saysGemini,
	},
	{
		// https://www.jsonrpc.org/specification
		Name: "jsonrpc", Key: Key{"Authorization", "Bearer "}, Quotas: AnyQuotas(), says: saysJSONRPC, replies: hasID,
		Scope: Scope{InBody, "method"}, Commit: "complete", Method: "any",
		Answers: jsonrpc,
	},
	{
		// https://grpc.io/docs/guides/auth/. Every pool reads gRPC statuses, so there are no Answers
		// here. An endpoint may send UNAVAILABLE after it has carried out a call, so by default only
		// calls that it cannot have processed move on.
		Name: "grpc", Key: Key{"Authorization", "Bearer "},
		Scope: Scope{In: InService}, Commit: "headers", Method: "idempotent",
	},
}

// in200 are the statuses of good responses. An error in one that no rule names may be anybody's, so
// another endpoint is asked, and none is blamed for it.
const in200 = "2xx"

// anError matches an error that is a text or an object, but neither empty nor a flag.
const anError = `^([^{\[]{6}|\{\s*")`

// ofServer matches texts of errors that are not the caller's.
const ofServer = `(?i)(overload|over.?capacity|unavailable|internal|time(d )?.?out|upstream|gateway|server error|try again|unexpected eof|` +
	`connection (refused|reset|closed)|during generation|incomplete generation|no healthy)`

// openai returns the rules for OpenAI and for APIs with the same errors.
//
//   - Errors: https://platform.openai.com/docs/guides/error-codes. `error.code` names them, and
//     `error.type` where the code is null. A stream of a completion says the same in a chunk.
//   - Responses: https://platform.openai.com/docs/api-reference/responses-streaming. The event `error` has
//     `code`, `response.failed` has `response.error.code`.
//   - OpenRouter: https://openrouter.ai/docs/api/reference/errors-and-debugging. `error.code` is the status that a
//     200 should have had; a 403 with `error.metadata` is about the prompt, not the key. A choice that ends with an
//     error has its own `error.code`.
//   - Mistral, https://docs.mistral.ai/api: the finish_reason error. DeepSeek, https://api-docs.deepseek.com/api/create-chat-completion:
//     insufficient_system_resource.
//   - Groq: x_groq.error https://github.com/groq/groq-python/blob/main/src/groq/types/chat/chat_completion_chunk.py
//   - TGI: the error is a text https://github.com/huggingface/text-generation-inference/blob/main/router/src/infer/mod.rs, as in
//     Ollama's lines https://docs.ollama.com/api/errors
//   - Azure: https://learn.microsoft.com/en-us/azure/ai-foundry/openai/reference. DeploymentNotFound.
func openai() (answers []Answer) {
	for _, rule := range []struct{ as, match string }{
		{"denied", "^(insufficient_quota|credit_balance_exhausted|billing_hard_limit_reached|invalid_api_key|401|402)$"},
		{"held", "^(rate_limit_exceeded|rate_limit_error|slow_down|429)$"},
		{"failure", "^(server_error|server_is_overloaded|overloaded|overloaded_error|engine_overloaded(_error)?|service_unavailable(_error)?|" +
			"internal(_server)?_error|InternalServerError|ServiceUnavailable(Error)?|upstream_error|timeout(_error)?|408|5[0-9][0-9])$"},
		{"next", "^(model_not_found|context_length_exceeded|DeploymentNotFound)$"},
	} {
		for _, path := range []string{"error.code", "error.type", "response.error.code", "code", "choices.0.error.code"} {
			answers = append(answers, Answer{
				Status: anyStatus, JSON: path, Match: rule.match, As: rule.as,
				OfQuota: rule.as == "held" || rule.as == "denied",
			})
		}
	}
	answers = append(answers,
		Answer{Status: anyStatus, JSON: "error.code", Match: "^403$", As: "denied", OfQuota: true, Unless: &Answer{JSON: "error.metadata"}},
		Answer{Status: "403", JSON: "error.metadata", As: "ok"})
	for _, path := range []string{"error.code", "error.type", "response.error.code", "code", "type"} {
		answers = append(answers, Answer{Status: in200, JSON: path, Match: ofCaller, As: "ok"})
	}
	return append(answers,
		Answer{Status: in200, JSON: "error", Match: "(?i)^(input validation|template|tool) error", As: "ok"},
		Answer{Status: in200, JSON: "choices.0.finish_reason", Match: "^(error|insufficient_system_resource)$", As: "failure",
			Unless: &Answer{JSON: "choices.0.error.code", Match: "^4"}},
		Answer{Status: in200, JSON: "error", Match: `^[^{\[]*` + ofServer, As: "failure", Unless: &Answer{JSON: "choices"}},
		Answer{Status: in200, JSON: "error", Match: anError, As: "next", Unless: &Answer{JSON: "choices"}},
		Answer{Status: in200, JSON: "response.error", Match: anError, As: "next"},
		Answer{Status: in200, JSON: "x_groq.error", As: "next"},
		Answer{Status: in200, JSON: "object", Match: "^error$", As: "next"},
		Answer{Status: in200, JSON: "type", Match: "^error$", As: "next"})
}

// ofCaller matches the codes and types of errors that the caller has made.
const ofCaller = "(?i)^(4[0-9][0-9]|bad_?request.*|.*(invalid|content|policy|unsupported|unprocessable|not_?found|too_(large|long|small)|prompt|image|moderation|safety).*)$"

// anthropic are the rules for Anthropic's messages.
//
//   - Errors: https://docs.claude.com/en/api/errors. `error.type` names them.
//   - Streams: https://docs.claude.com/en/docs/build-with-claude/streaming#error-events. The event `error` has the same.
//
// An account without credit gets a 400 of the type invalid_request_error; only its message tells it
// apart.
var anthropic = []Answer{
	{Status: anyStatus, JSON: "error.type", Match: "^(authentication_error|permission_error|billing_error)$", As: "denied", OfQuota: true},
	{Status: "400", JSON: "error.message", Match: "^Your credit balance is too low", As: "denied", OfQuota: true},
	{Status: anyStatus, JSON: "error.type", Match: "^rate_limit_error$", As: "held", OfQuota: true},
	{Status: anyStatus, JSON: "error.type", Match: "^(overloaded_error|api_error|timeout_error)$", As: "failure"},
	{Status: "404", JSON: "error.message", Match: `(?i)\bmodel\b`, As: "next"},
	{Status: in200, JSON: "error.type", Match: "^(invalid_request_error|not_found_error|request_too_large)$", As: "ok"},
	{Status: in200, JSON: "error", Match: `^[^{\[]*` + ofServer, As: "failure"},
	{Status: in200, JSON: "error", Match: anError, As: "next"},
}

// gemini are the rules for the Gemini API. Where `error.status` is missing, `error.code` has the HTTP status.
//
//   - Errors: https://ai.google.dev/gemini-api/docs/troubleshooting. `error.status` names them.
//   - Their shape: https://cloud.google.com/apis/design/errors#error_model. An invalid key gets a 400 whose
//     first detail says API_KEY_INVALID (google.rpc.ErrorInfo).
//
// Files and cached contents belong to a key's project, so a 403 for one says nothing about the key.
var gemini = []Answer{
	{Status: "403", JSON: "error.message", Match: `(?i)permission to access the (file|cached ?content)`, As: "next"},
	{Status: anyStatus, JSON: "error.status", Match: "^(UNAUTHENTICATED|PERMISSION_DENIED)$", As: "denied", OfQuota: true},
	{Status: "400", JSON: "error.details.0.reason", Match: "^API_KEY_INVALID$", As: "denied", OfQuota: true},
	{Status: "400", JSON: "error.message", Match: "(?i)^(user location is not supported|gemini api free tier is not available)", As: "denied", OfQuota: true},
	{Status: anyStatus, JSON: "error.status", Match: "^RESOURCE_EXHAUSTED$", As: "held", OfQuota: true},
	{Status: anyStatus, JSON: "error.status", Match: "^(UNAVAILABLE|INTERNAL|DEADLINE_EXCEEDED|UNKNOWN|ABORTED|DATA_LOSS)$", As: "failure"},
	{Status: anyStatus, JSON: "error.code", Match: "^429$", As: "held", OfQuota: true},
	{Status: anyStatus, JSON: "error.code", Match: "^5[0-9][0-9]$", As: "failure"},
	{Status: "404", JSON: "error.message", Match: `(?i)\bmodels?\b`, As: "next"},
	{Status: in200, JSON: "error.code", Match: "^4", As: "ok"},
	{Status: in200, JSON: "error.status", Match: "^(INVALID_ARGUMENT|FAILED_PRECONDITION|OUT_OF_RANGE|NOT_FOUND|ALREADY_EXISTS|CANCELLED)$", As: "ok"},
	{Status: in200, JSON: "error", Match: `^[^{\[]*` + ofServer, As: "failure"},
	{Status: in200, JSON: "error", Match: anError, As: "next"},
}

// jsonrpc are the rules for JSON-RPC, as blockchain nodes and their providers use it. Errors come
// with 200 too.
//
//   - Codes: https://www.jsonrpc.org/specification#error_object and https://eips.ethereum.org/EIPS/eip-1474#error-codes
//   - geth, and Erigon like it: -32002 timed out https://github.com/ethereum/go-ethereum/blob/master/rpc/errors.go,
//     "header not found" https://github.com/ethereum/go-ethereum/blob/master/eth/api_backend.go, "missing trie node"
//     https://github.com/ethereum/go-ethereum/blob/master/trie/errors.go, and 3 for a call that reverts
//     https://github.com/ethereum/go-ethereum/blob/master/internal/ethapi/errors.go
//   - "unknown block" https://github.com/ethereum/go-ethereum/blob/master/eth/filters/api.go, 4444 "pruned history
//     unavailable" https://eips.ethereum.org/EIPS/eip-4444, and Erigon's "old data not available due to pruning"
//     https://github.com/erigontech/erigon/blob/main/db/state/history_reader_v3.go
//   - Nethermind: -32002, "No state available for block", -32016 and -32017 timed out, -39001 unknown block
//     https://github.com/NethermindEth/nethermind/blob/master/src/Nethermind/Nethermind.JsonRpc/ErrorCodes.cs
//   - Solana: -32005, "Node is behind by 42 slots" https://solana.com/docs/rpc/http/gethealth
//   - Bitcoin: -28, warming up https://github.com/bitcoin/bitcoin/blob/master/src/rpc/protocol.h
//   - Limits: -32005 https://docs.metamask.io/services/reference/ethereum/json-rpc-methods/#error-codes (which also refuses
//     queries with it that have too many results), 429 https://www.quicknode.com/docs/ethereum/error-references, -32029
//     https://www.therpc.io/docs/ethereum/rate-limits; others say it in the message only, with codes such as -32000, -32007,
//     -32090 and -32605
//
// A node that lags behind, or lacks the requested state, has failed. An error that the call itself
// causes (reverted, invalid parameters, nonce too low) is a good response. A node without old history
// is healthy, but another may do better. Limits hold the endpoint even if its key is in its URL.
var jsonrpc = []Answer{
	{Status: anyStatus, JSON: "error.code", Match: "^(401|403)$", As: "denied", OfQuota: true},
	{Status: anyStatus, JSON: "error.message", Match: "(?i)^node is (behind|unhealthy)", As: "failure"},
	{Status: anyStatus, JSON: "error.code", Match: "^(-32005|-32029|429)$", As: "held",
		Unless: &Answer{JSON: "error.message", Match: "(?i)query returned|results|block range|fee"}},
	{Status: anyStatus, JSON: "error.message", As: "held",
		Match: "(?i)^(rate.?limit|too many requests|call rate limit|(daily |.{0,20}/second )?request (count |rate )?limit (was |is )?(reached|exceeded))"},
	{Status: anyStatus, JSON: "error.code", Match: "^(-32603|-32002|-32016|-32017|-39001|-28)$", As: "failure", Unless: byTheCall},
	{Status: anyStatus, JSON: "error.message", As: "failure", Unless: &Answer{JSON: "error.code", Match: "^(3|-32600|-32602|-32700)$"},
		Match: "(?i)^(internal (server )?error|server (error|is (busy|overloaded))|service (is )?(temporarily )?unavailable|bad gateway|gateway time-?out|" +
			"request timed? ?out|upstream|no (healthy|available) (upstream|backend|node)|(context )?deadline exceeded|connection (refused|reset)|dial tcp)"},
	{Status: anyStatus, JSON: "error.message", As: "failure", Unless: byTheCall,
		Match: "(?i)^(header (for (hash|number) )?not found|unknown block|block (.{0,80} )?not found|missing trie node|no state available|historical state|state .{0,80} is not available|.{0,60}not synced)"},
	{Status: anyStatus, JSON: "error.code", Match: "^(-32601|-32004|4444)$", As: "next"},
	{Status: anyStatus, JSON: "error.message", Match: "(?i)^(old data not available due to pruning|pruned history unavailable)", As: "next"},
	{Status: in200, JSON: "error", Match: anError, As: "next", Unless: &Answer{JSON: "error.code"}},
	{Status: "429", As: "held"},
	{Status: "5xx", JSON: "error.code", Match: "^(3|-32600|-32602|-32700)$", As: "ok"},
	{Status: "5xx", JSON: "error.message", Match: "(?i)revert", As: "ok"},
}

// byTheCall matches the messages of errors that the call itself causes, whatever their code.
var byTheCall = &Answer{JSON: "error.message", Match: "(?i)revert|vm exception|out of gas|invalid opcode"}
