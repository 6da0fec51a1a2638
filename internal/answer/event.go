package answer

import (
	"bytes"
	"encoding/json"

	"github.com/apifailover/caddy-failover/internal/jsondoc"
)

// A Weight says how much of a response an event is.
type Weight uint8

const (
	// Nothing is the weight of events that only keep a connection alive: comments, pings, events
	// without data.
	Nothing Weight = iota
	// Preamble is the weight of an event that begins a response and has no content.
	Preamble
	// Content is the weight of all other events.
	Content
)

// An event is a server-sent event, or a line of JSON.
type event struct {
	name string
	data []byte
}

// A splitter finds the events in a stream. The zero value is at the beginning.
type splitter struct {
	at     int  // offset of the first unread line
	seen   int  // offset from which to look for its end
	feed   bool // the last line ended with a carriage return, so a line feed may follow
	name   string
	data   []byte
	filled bool // the event has a data field
}

// next returns the next event of a stream, given from its beginning as far as it has arrived.
// An event without its end counts only if the stream is whole.
func (s *splitter) next(stream []byte, whole bool) (e event, ok bool) {
	if s.at == 0 {
		if bom := []byte("\xef\xbb\xbf"); bytes.HasPrefix(stream, bom) {
			s.at, s.seen = len(bom), len(bom)
		}
	}
	for s.seen < len(stream) {
		if s.feed && stream[s.at] == '\n' {
			s.at++
			s.seen = s.at
		}
		s.feed = false
		i := bytes.IndexAny(stream[s.seen:], "\r\n")
		if i < 0 {
			s.seen = len(stream)
			break
		}
		end := s.seen + i
		line := stream[s.at:end]
		s.feed = stream[end] == '\r'
		s.at, s.seen = end+1, end+1
		if len(line) == 0 {
			return s.take(), true
		}
		s.field(line)
	}
	if whole && (s.at < len(stream) || s.filled || s.name != "") {
		s.field(stream[s.at:])
		s.at, s.seen = len(stream), len(stream)
		return s.take(), true
	}
	return event{}, false
}

// take returns the event whose fields have been read, and starts the next.
func (s *splitter) take() event {
	e := event{s.name, s.data}
	s.name, s.data, s.filled = "", nil, false
	return e
}

// field reads a line of an event.
func (s *splitter) field(line []byte) {
	name, value, _ := bytes.Cut(line, []byte(":"))
	value = bytes.TrimPrefix(value, []byte(" "))
	switch string(name) {
	case "event":
		s.name = string(value)
	case "data":
		if s.filled {
			s.data = append(s.data, '\n')
		}
		s.data, s.filled = append(s.data, value...), true
	}
}

// nextLine is next for a stream of lines of JSON.
func (s *splitter) nextLine(stream []byte, whole bool) (e event, ok bool) {
	end := len(stream)
	if i := bytes.IndexByte(stream[s.seen:], '\n'); i >= 0 {
		end = s.seen + i
	} else if s.seen = len(stream); !whole || s.at == len(stream) {
		return event{}, false
	}
	e.data = bytes.Trim(stream[s.at:end], "\x1e \t\r") // RFC 7464 begins lines with a record separator
	s.at = min(end+1, len(stream))
	s.seen = s.at
	return e, true
}

var (
	typePath    = jsondoc.Named("type")
	errorPath   = jsondoc.Named("error")
	choicesPath = jsondoc.Named("choices")
)

// weight returns the event's weight. APIs begin their streams, and keep them alive, with:
//
//   - OpenAI's completions: a chunk with only the role; Azure: one without choices
//     https://platform.openai.com/docs/api-reference/chat-streaming
//   - OpenAI's responses: response.created, response.in_progress, response.queued
//     https://platform.openai.com/docs/api-reference/responses-streaming
//   - Anthropic: message_start, content_block_start without content, ping
//     https://docs.anthropic.com/en/docs/build-with-claude/streaming
//   - OpenRouter: comments
//     https://openrouter.ai/docs/api-reference/streaming
func (e *event) weight() Weight {
	data := bytes.TrimSpace(e.data)
	if len(data) == 0 || isPing(e.name) {
		return Nothing
	}
	if data[0] != '{' || jsondoc.Check(data, jsondoc.MaxDepth) != nil {
		return Content
	}
	if value, found := jsondoc.Find(data, errorPath, true); found == jsondoc.Here && string(value) != "null" {
		return Content
	}
	if value, found := jsondoc.Find(data, typePath, true); found == jsondoc.Here {
		switch kind := jsondoc.Text(value); {
		case isPing(kind):
			return Nothing
		case kind == "response.created" || kind == "response.in_progress" || kind == "response.queued" || kind == "message_start":
			return Preamble
		case kind == "content_block_start":
			return weightOf(emptyBlock(data))
		}
	}
	if choices, found := jsondoc.Find(data, choicesPath, true); found == jsondoc.Here {
		return weightOf(emptyChoices(choices))
	}
	return Content
}

// weightOf returns Preamble for an event that may be empty and is, else Content.
func weightOf(empty bool) Weight {
	if empty {
		return Preamble
	}
	return Content
}

// isPing reports whether an event of this name only keeps a stream alive.
func isPing(name string) bool {
	switch name {
	case "ping", "heartbeat", "keepalive", "keep-alive":
		return true
	}
	return false
}

// emptyBlock reports whether an event of Anthropic begins a content block without text.
func emptyBlock(data []byte) bool {
	var start struct {
		Block struct {
			Type, Text, Thinking string
		} `json:"content_block"`
	}
	return json.Unmarshal(data, &start) == nil && (start.Block.Type == "text" || start.Block.Type == "thinking") &&
		start.Block.Text == "" && start.Block.Thinking == ""
}

// emptyChoices reports whether no choice of an OpenAI chunk has more than a role.
func emptyChoices(choices []byte) bool {
	var list []struct {
		Delta  map[string]json.RawMessage
		Text   string
		Finish json.RawMessage `json:"finish_reason"`
	}
	if json.Unmarshal(choices, &list) != nil {
		return false
	}
	for _, c := range list {
		if c.Delta == nil || c.Text != "" || !isEmpty(c.Finish) {
			return false
		}
		for name, value := range c.Delta {
			if name != "role" && !isEmpty(value) {
				return false
			}
		}
	}
	return true
}

// isEmpty reports whether a JSON value is absent, null or empty.
func isEmpty(value json.RawMessage) bool {
	switch string(value) {
	case "", "null", `""`, "[]", "{}":
		return true
	}
	return false
}
