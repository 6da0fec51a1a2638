package dialect

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
)

// A Refusal is a response of this program to a request that no endpoint answers.
type Refusal struct {
	Status     int    // 400 or more
	Type, Code string // in the words of OpenAI's API, and of this program
	Message    string
	RetryAfter int    // seconds; 0: none
	Request    []byte // the request's body; nil: unknown
}

// Body returns a refusal as JSON in the shape of the API's errors, which its clients parse. If d is nil, it
// has the shape of OpenAI's.
func (d *Dialect) Body(r *Refusal) []byte {
	say := saysOpenAI
	if d != nil && d.says != nil {
		say = d.says
	}
	body, _ := json.Marshal(say(r))
	return body
}

type object = map[string]any

// https://platform.openai.com/docs/guides/error-codes
func saysOpenAI(r *Refusal) any {
	return object{"error": object{"message": r.Message, "type": r.Type, "code": r.Code}}
}

// https://docs.claude.com/en/api/errors#error-shapes
func saysAnthropic(r *Refusal) any {
	kind := "invalid_request_error"
	switch {
	case r.Status == http.StatusTooManyRequests:
		kind = "rate_limit_error"
	case r.Status == http.StatusNotFound:
		kind = "not_found_error"
	case r.Status == http.StatusRequestEntityTooLarge:
		kind = "request_too_large"
	case r.Status >= http.StatusInternalServerError:
		kind = "overloaded_error"
	}
	return object{"type": "error", "error": object{"type": kind, "message": r.Message}}
}

// https://cloud.google.com/apis/design/errors#error_model
func saysGemini(r *Refusal) any {
	status := "INVALID_ARGUMENT"
	switch {
	case r.Status == http.StatusTooManyRequests:
		status = "RESOURCE_EXHAUSTED"
	case r.Status == http.StatusNotFound:
		status = "NOT_FOUND"
	case r.Status >= http.StatusInternalServerError:
		status = "UNAVAILABLE"
	}
	failure := object{"code": r.Status, "message": r.Message, "status": status}
	if r.RetryAfter > 0 {
		failure["details"] = []any{object{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": fmt.Sprintf("%ds", r.RetryAfter)}}
	}
	return object{"error": failure}
}

// hasID reports whether a request is a call with an id, or a batch with one. Notifications have no
// response: https://www.jsonrpc.org/specification#notification
func hasID(request []byte) bool {
	type call struct {
		ID json.RawMessage `json:"id"`
	}
	var batch []call
	if json.Unmarshal(request, &batch) == nil {
		return slices.ContainsFunc(batch, func(c call) bool { return len(c.ID) > 0 })
	}
	var one call
	return json.Unmarshal(request, &one) == nil && len(one.ID) > 0
}

// saysJSONRPC returns an error for each call of a batch, and none for notifications. If no id is known, it
// returns one error whose id is null.
//
//   - https://www.jsonrpc.org/specification#response_object
//   - -32005 (limit exceeded) and -32002 (resource unavailable): https://eips.ethereum.org/EIPS/eip-1474#error-codes
func saysJSONRPC(r *Refusal) any {
	code := -32600 // invalid request
	switch {
	case r.Status == http.StatusTooManyRequests:
		code = -32005
	case r.Status >= http.StatusInternalServerError:
		code = -32002
	}
	say := func(id json.RawMessage) any {
		return object{"jsonrpc": "2.0", "id": id, "error": object{"code": code, "message": r.Message, "data": object{"reason": r.Code}}}
	}
	type call struct {
		ID     json.RawMessage `json:"id"`
		Method json.RawMessage `json:"method"`
	}
	var batch []call
	var one call
	switch {
	case bytes.HasPrefix(bytes.TrimSpace(r.Request), []byte("[")) && json.Unmarshal(r.Request, &batch) == nil:
		var all []any
		for _, c := range batch {
			if len(c.ID) > 0 {
				all = append(all, say(c.ID))
			}
		}
		if len(all) > 0 {
			return all
		}
	case json.Unmarshal(r.Request, &one) == nil && len(one.ID) > 0:
		return say(one.ID)
	}
	return say(json.RawMessage("null"))
}
