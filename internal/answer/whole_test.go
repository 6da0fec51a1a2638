package answer

import (
	"net/http"
	"strings"
	"testing"
)

// TestCheckJSON: only bodies that contradict their headers are malformed.
func TestCheckJSON(t *testing.T) {
	const word = `data: {"choices":[{"delta":{"content":"hi"}}]}` + "\n\n"
	for _, test := range []struct {
		name, kind, coding, body string
		bad                      bool
	}{
		{"a document", asJSON, "", ` {"choices":[]} ` + "\n", false},
		{"a problem", "application/problem+json; charset=utf-8", "", `{"title":"no"`, true},
		{"half a document", asJSON, "", `{"choices":[{"mess"oops`, true},
		{"a page", asJSON, "", "<html>Bad Gateway</html>", true},
		{"no UTF-8, which clients read all the same", asJSON, "", "{\"text\":\"\xff\"}", false},
		{"a mark of byte order", asJSON, "", "\xef\xbb\xbf{}", false},
		{"nothing, as to a notification", asJSON, "", "", false},
		{"lines that say they are a document", asJSON, "", "{\"id\":1}\n{\"id\":2}\n", false},
		{"such lines, cut", asJSON, "", "{\"id\":1}\n{\"id\":", true},
		{"too deep to tell", asJSON, "", strings.Repeat("[", 5000) + strings.Repeat("]", 5000), false},
		{"no JSON, and it says so", "text/plain", "", `{"choices":`, false},
		{"of no type", "", "", `{"choices":`, false},
		{"a picture", "image/png", "", "{", false},
		{"events", asEvents, "", ": hi\n\n" + word + "event: ping\ndata: {}\n\ndata: [DONE]\n\n", false},
		{"events with a sentinel of their own", asEvents, "", word + "data: [end]\n\n", false},
		{"an array that is cut", asEvents, "", "data: [{\"a\":1}\n\n", true},
		{"events without a sentinel", asEvents, "", word + word, false},
		{"an event that is cut", asEvents, "", word + `data: {"choices":[{"delta":{"content": ` + "\n\n" + word, true},
		{"the last event is cut", asEvents, "", word + `data: {"choices":[{"del`, true},
		{"an event in two lines", asEvents, "", "data: {\"a\":\ndata: 1}\n\n", false},
		{"an event of words", asEvents, "", "data: hello\n\n", false},
		{"lines of JSON", "application/x-ndjson", "", "{\"a\":1}\n\n{\"b\":2}\n", false},
		{"lines of JSON, cut", "application/x-ndjson", "", "{\"a\":1}\n{\"b\":", true},
		{"gzip", asJSON, "gzip", strings.Join(zipped(`{"choices":`, `[]}`), ""), false},
		{"gzip of half a document", asJSON, "gzip", strings.Join(zipped(`{"choices":`), ""), true},
		{"half of gzip", asJSON, "gzip", zipped(`{"choices":[]}`)[0], true},
		{"no gzip at all", asJSON, "gzip", `{"choices":[]}`, true},
		{"a coding that we cannot read", asJSON, "br", "x", false},
	} {
		h := http.Header{"Content-Type": {test.kind}}
		if test.coding != "" {
			h.Set("Content-Encoding", test.coding)
		}
		if err := CheckJSON(h, []byte(test.body)); (err != nil) != test.bad {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}

// TestWhole: Whole finds rules that match later events of a stream.
func TestWhole(t *testing.T) {
	const word = `data: {"choices":[{"delta":{"content":"an \"error\" is no error"}}],"error":null}` + "\n\n"
	rules := rulesOf(t, "200 json error.code ^limit$ as held", "200 json error as failure", "200 text as next")
	for _, test := range []struct{ name, kind, body, as string }{
		{"well", asEvents, word + word + "data: [DONE]\n\n", ""},
		{"an error at the end", asEvents, word + "data: {\"error\":{\"code\":502}}\n\n", "failure"},
		{"an error between words", asEvents, word + "data: {\"error\":{\"code\":\"limit\"}}\n\n" + word, "held"},
		{"an error whose event does not end", asEvents, word + "data: {\"error\":{\"code\":502}}", "failure"},
		{"an error in lines", "application/x-ndjson", "{\"response\":\"hi\"}\n{\"error\":\"no\"}\n", "failure"},
		{"text is for the beginning", asEvents, word + "data: text\n\n", ""},
		{"a document, which is judged as it comes", asJSON, `{"error":{"code":"limit"}}`, ""},
	} {
		got := ""
		if rule := rules.Whole(200, http.Header{"Content-Type": {test.kind}}, []byte(test.body)); rule != nil {
			got = rule.As.String()
		}
		if got != test.as {
			t.Errorf("%s: %q, want %q", test.name, got, test.as)
		}
	}
	if rules.Whole(201, http.Header{"Content-Type": {asEvents}}, []byte("data: {\"error\":1}\n\n")) != nil {
		t.Error("a status without rules matches")
	}
	if (*Rules)(nil).Whole(200, http.Header{}, nil) != nil {
		t.Error("no rules match")
	}
}

// BenchmarkCheckJSON measures a stream of 200 events.
func BenchmarkCheckJSON(b *testing.B) {
	event := `data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"x","choices":[{"index":0,"delta":{"content":" word"},"finish_reason":null}]}` + "\n\n"
	body, h := []byte(strings.Repeat(event, 200)), http.Header{"Content-Type": {asEvents}}
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if CheckJSON(h, body) != nil {
			b.Fatal("malformed")
		}
	}
}
