//go:build system

package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
)

// A clientAPI is one of the APIs that the official client libraries use.
type clientAPI uint8

const (
	chatAPI clientAPI = iota // OpenAI's chat completions
	responsesAPI
	messagesAPI // Anthropic's
)

func clientAPIOf(r *http.Request) clientAPI {
	switch {
	case strings.HasSuffix(r.URL.Path, "/messages"):
		return messagesAPI
	case strings.HasSuffix(r.URL.Path, "/responses"):
		return responsesAPI
	}
	return chatAPI
}

// answersClients answers requests of each API with a text, in the API's documented form, with all fields that
// the client libraries check.
func answersClients(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var c completion
		if err := json.NewDecoder(r.Body).Decode(&c); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		shape := clientShapes[clientAPIOf(r)]
		if !c.Stream {
			says(http.StatusOK, inJSON, fmt.Sprintf(shape.whole, c.Model, text))(w, nil)
			return
		}
		body := fmt.Sprintf(shape.begin, c.Model)
		for word := range strings.FieldsSeq(text) {
			body += fmt.Sprintf(shape.word, word+" ")
		}
		says(http.StatusOK, inEvents, body+fmt.Sprintf(shape.end, c.Model, text))(w, nil)
	}
}

// eventOf returns a server-sent event with the type as its name. rest are the further fields of its JSON.
func eventOf(kind, rest string) string {
	return fmt.Sprintf("event: %s\ndata: {\"type\":%[1]q%s}\n\n", kind, rest)
}

const (
	chunk     = `data: {"id":"1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{`
	aResponse = `"id":"resp_1","object":"response","created_at":1,"model":%[1]q,"error":null,"incomplete_details":null,"parallel_tool_calls":true,"tools":[]`
	aMessage  = `"id":"msg_1","type":"message","role":"assistant","model":%q,"stop_sequence":null`
	anItem    = `"id":"item_1","type":"message","role":"assistant"`
)

// clientShapes are the answers of each API, as formats: whole and end take the model and the text, begin takes
// the model, word takes a word.
var clientShapes = [...]struct{ whole, begin, word, end string }{
	chatAPI: {
		whole: `{"id":"1","object":"chat.completion","created":1,"model":%q,"choices":[{"index":0,"message":{"role":"assistant","content":%q},"finish_reason":"stop"}],` +
			`"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}`,
		begin: `data: {"id":"1","object":"chat.completion.chunk","created":1,"model":%q,"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}` + "\n\n",
		word:  chunk + `"content":%q},"finish_reason":null}]}` + "\n\n",
		end:   chunk + `},"finish_reason":"stop"}]}` + "\n\n%[1].0s%[2].0sdata: [DONE]\n\n",
	},
	responsesAPI: {
		whole: `{` + aResponse + `,"status":"completed","output":[{` + anItem + `,"status":"completed","content":[{"type":"output_text","text":%[2]q,"annotations":[]}]}],` +
			`"usage":{"input_tokens":1,"output_tokens":1,"total_tokens":2}}`,
		begin: eventOf("response.created", `,"sequence_number":0,"response":{`+aResponse+`,"status":"in_progress","output":[]}`) +
			eventOf("response.output_item.added", `,"sequence_number":1,"output_index":0,"item":{`+anItem+`,"status":"in_progress","content":[]}`),
		word: eventOf("response.output_text.delta", `,"sequence_number":2,"item_id":"item_1","output_index":0,"content_index":0,"delta":%q`),
		end: eventOf("response.output_item.done", `,"sequence_number":3,"output_index":0,"item":{`+anItem+`,"status":"completed","content":[{"type":"output_text","text":%[2]q,"annotations":[]}]}`) +
			eventOf("response.completed", `,"sequence_number":4,"response":{`+aResponse+`,"status":"completed","output":[],"usage":{"input_tokens":1,"output_tokens":1,"total_tokens":2}}`),
	},
	messagesAPI: {
		whole: `{` + aMessage + `,"content":[{"type":"text","text":%q}],"stop_reason":"end_turn","usage":{"input_tokens":1,"output_tokens":1}}`,
		begin: eventOf("message_start", `,"message":{`+aMessage+`,"content":[],"stop_reason":null,"usage":{"input_tokens":1,"output_tokens":1}}`) +
			eventOf("content_block_start", `,"index":0,"content_block":{"type":"text","text":""}`),
		word: eventOf("content_block_delta", `,"index":0,"delta":{"type":"text_delta","text":%q}`),
		end: eventOf("content_block_stop", `,"index":0`) +
			eventOf("message_delta", `,"delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":1}`) +
			eventOf("message_stop", "") + "%[1].0s%[2].0s",
	},
}

// sayError answers with an error of an API. If a stream is asked for and the status is 200, the error is the
// first event with content.
func sayError(w http.ResponseWriter, api clientAPI, status int, stream bool, kind, code, anthropic string) {
	openai := fmt.Sprintf(`{"message":"no","type":%q,"param":null,"code":%q}`, kind, code)
	body := `{"error":` + openai + `}`
	events := aRole + "data: " + body + "\n\n"
	switch {
	case api == messagesAPI:
		body = `{"type":"error","error":{"type":"` + anthropic + `","message":"model: no"}}`
		events = eventOf("message_start", `,"message":{"content":[]}`) + "event: error\ndata: " + body + "\n\n"
	case api == responsesAPI:
		events = eventOf("response.created", `,"response":{"id":"resp_1","status":"in_progress","error":null}`) +
			eventOf("error", `,"code":"`+code+`","message":"no","param":null,"sequence_number":1`)
		if status == http.StatusOK {
			body = `{"id":"resp_1","object":"response","status":"failed","output":[],"error":{"code":"` + code + `","message":"no"}}`
		}
	}
	if stream && status == http.StatusOK {
		says(status, inEvents, events)(w, nil)
		return
	}
	says(status, inJSON, body)(w, nil)
}
