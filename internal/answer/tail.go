package answer

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
)

// A Tail is the end of an event stream so far. The zero value is empty.
type Tail struct {
	kept [tailSize]byte
	n    int // bytes kept
	more bool
}

// tailSize is how many bytes a Tail keeps. An event that is longer tells nothing.
const tailSize = 2 << 10

// HasTail reports whether a Tail can tell how the stream of a response ends.
func HasTail(h http.Header) bool {
	zipped, known := codingOf(h)
	return known && !zipped && shapeOf(h) == events
}

// Add takes the next bytes of the stream.
func (t *Tail) Add(p []byte) {
	if drop := t.n + len(p) - tailSize; drop > 0 {
		t.more = true
		drop = min(drop, t.n)
		copy(t.kept[:], t.kept[drop:t.n])
		t.n -= drop
		p = p[max(0, len(p)-tailSize):]
	}
	t.n += copy(t.kept[t.n:], p)
}

// An Ending says how a stream of an API has ended.
type Ending uint8

const (
	EndUnknown Ending = iota
	Finished          // it has said that it is complete
	CutOff            // it has not, although streams of its kind do
)

// Ending returns how the stream ends if no more of it comes.
func (t *Tail) Ending() (end Ending) {
	stream := t.kept[:t.n]
	if t.more { // the first event may be incomplete
		i := bytes.Index(stream, []byte("\n\n"))
		if crlf := bytes.Index(stream, []byte("\n\r\n")); crlf >= 0 && (i < 0 || crlf < i) {
			i = crlf
		}
		if i < 0 {
			return EndUnknown
		}
		stream = stream[i+2:]
	}
	for data := range laterEvents(events, stream) {
		if e := endingBy(data); e != EndUnknown && end != Finished {
			end = e
		}
	}
	return end
}

// endingBy returns how a stream ends whose latest event has this data:
//
//   - OpenAI's completions end with [DONE], and each choice has a finish_reason. Usage may follow.
//   - OpenAI's responses: response.completed, response.failed or response.incomplete, and events of parts before that
//   - Anthropic: message_stop, and events of content blocks before that
//   - Gemini: finishReason
//   - all of them: an error
func endingBy(data []byte) Ending {
	var e struct {
		Type    string
		Error   json.RawMessage
		Usage   json.RawMessage
		Choices []struct {
			Delta   map[string]json.RawMessage
			Text    string
			Finish  json.RawMessage `json:"finish_reason"`
			Stopped json.RawMessage `json:"stop_reason"`
		}
		Candidates []struct {
			Finish string `json:"finishReason"`
		}
	}
	if string(data) == "[DONE]" {
		return Finished
	}
	if json.Unmarshal(data, &e) != nil {
		return EndUnknown
	}
	switch {
	case !isEmpty(e.Error), !isEmpty(e.Usage) && len(e.Choices) > 0:
		return Finished
	case len(e.Choices) > 0:
		end := EndUnknown
		for _, c := range e.Choices {
			switch {
			case !isEmpty(c.Finish) || !isEmpty(c.Stopped):
				return Finished
			case c.Text != "" || len(c.Delta) > 0:
				end = CutOff
			}
		}
		return end
	case len(e.Candidates) > 0:
		if e.Candidates[0].Finish != "" {
			return Finished
		}
		return CutOff
	}
	switch e.Type {
	case "message_stop", "response.completed", "response.failed", "response.incomplete", "response.cancelled":
		return Finished
	case "message_start", "message_delta", "content_block_start", "content_block_delta", "content_block_stop",
		"response.created", "response.queued", "response.in_progress":
		return CutOff
	}
	if strings.HasPrefix(e.Type, "response.") && strings.Count(e.Type, ".") > 1 {
		return CutOff
	}
	return EndUnknown
}
