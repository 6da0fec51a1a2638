package answer

import (
	"strings"
	"testing"
)

// TestEndings has the ends of documented streams, added at once, byte by byte, and after much else.
func TestEndings(t *testing.T) {
	const word = "data: {\"choices\":[{\"delta\":{\"content\":\"hi\"},\"finish_reason\":null}]}\n\n"
	for _, test := range []struct {
		name, stream string
		want         Ending
	}{
		{"nothing", "", EndUnknown},
		{"comments", ": keep-alive\n\n", EndUnknown},
		{"another API", "data: {\"price\":1}\n\n", EndUnknown},
		{"text", "data: hello\n\n", EndUnknown},
		{"a word", word, CutOff},
		{"a word with CRLF", strings.ReplaceAll(word, "\n", "\r\n"), CutOff},
		{"half of an event", word + "data: {\"choices\":[{\"delta\":{\"con", CutOff},
		{"a comment after a word", word + ": ping\n\n", CutOff},
		{"a finish_reason", word + "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n", Finished},
		{"[DONE]", word + "data: [DONE]\n\n", Finished},
		{"usage", "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: {\"choices\":[],\"usage\":{\"total_tokens\":3}}\n\n", Finished},
		{"an error", word + "data: {\"error\":{\"message\":\"no\"}}\n\n", Finished},
		{"a completion's text", "data: {\"choices\":[{\"text\":\"hi\",\"finish_reason\":null}]}\n\n", CutOff},
		{"a block of a message", "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"delta\":{}}\n\n", CutOff},
		{"a message", "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n", Finished},
		{"a part of a response", "data: {\"type\":\"response.output_text.done\"}\n\n", CutOff},
		{"a response", "data: {\"type\":\"response.completed\",\"response\":{\"usage\":{\"total_tokens\":3}}}\n\n", Finished},
		{"an incomplete response", "data: {\"type\":\"response.incomplete\"}\n\n", Finished},
		{"speech", "data: {\"type\":\"speech.audio.delta\"}\n\n", EndUnknown},
		{"candidates", "data: {\"candidates\":[{\"content\":{\"parts\":[]}}]}\r\n\r\n", CutOff},
		{"the last candidates", "data: {\"candidates\":[{\"content\":{},\"finishReason\":\"STOP\"}]}\r\n\r\n", Finished},
	} {
		var whole, slow, late Tail
		whole.Add([]byte(test.stream))
		for i := range test.stream {
			slow.Add([]byte{test.stream[i]})
		}
		late.Add([]byte(strings.Repeat(word, 100)[:3001]))
		late.Add([]byte("\n\n" + test.stream))
		want := test.want
		if got := whole.Ending(); got != want {
			t.Errorf("%s: %d, want %d", test.name, got, want)
		}
		if got := slow.Ending(); got != want {
			t.Errorf("%s, byte by byte: %d, want %d", test.name, got, want)
		}
		if want == EndUnknown {
			want = CutOff
		}
		if got := late.Ending(); got != want {
			t.Errorf("%s, after 3000 bytes: %d, want %d", test.name, got, want)
		}
	}
	var long Tail
	long.Add([]byte("data: {\"choices\":[{\"delta\":{\"content\":\"" + strings.Repeat("x", 5000)))
	if got := long.Ending(); got != EndUnknown {
		t.Errorf("a long event: %d", got)
	}
}
