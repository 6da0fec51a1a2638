package answer_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"github.com/apifailover/caddy-failover/internal/answer"
)

var usageRule = answer.NewUsageRule([][]string{{"usage", "total_tokens"}, {"response", "usage", "total_tokens"}},
	[][][]string{{{"usage", "input_tokens"}, {"message", "usage", "input_tokens"}}, {{"usage", "output_tokens"}, {"message", "usage", "output_tokens"}}})

const (
	asJSON = "application/json"
	asSSE  = "text/event-stream"
)

func zip(text string) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write([]byte(text))
	_ = w.Close()
	return b.Bytes()
}

func TestUsage(t *testing.T) {
	long := strings.Repeat("word ", 40000)
	for name, test := range map[string]struct {
		kind, body string
		want       int64 // -1: none
	}{
		"a document":            {asJSON, `{"choices":[{"text":"` + long + `"}],"usage":{"prompt_tokens":5,"total_tokens":12}}`, 12},
		"a stream's last event": {asSSE, "data: {\"choices\":[{\"usage\":{\"total_tokens\":1}}],\"usage\":null}\n\ndata: {\"choices\":[],\"usage\":{\"total_tokens\":12}}\n\ndata: [DONE]\n\n", 12},
		"other line ends":       {asSSE, "event: x\r\ndata:{\"usage\":\r\ndata: {\"total_tokens\":\r\ndata: 12}}\r\n\r\n", 12},
		"carriage returns":      {asSSE, "data:{\"usage\":\rdata:{\"total_tokens\":12}}\r\r", 12},
		"an event that breaks":  {asSSE, "data: {\"usage\":{\"x\":\"\n\ndata: {\"usage\":{\"total_tokens\":12}}\n\n", 12},
		"a large last event":    {asSSE, "event: response.completed\ndata: {\"response\":{\"output\":[\"" + long + "\"],\"usage\":{\"total_tokens\":12}}}\n\n", 12},
		"parts": {asSSE, "data: {\"message\":{\"usage\":{\"input_tokens\":10,\"output_tokens\":1}}}\n\ndata: {\"usage\":{\"output_tokens\":40}}\n\n" +
			"data: {\"usage\":{\"input_tokens\":0,\"output_tokens\":50}}\n\n", 60},
		"no usage":           {asSSE, "data: {\"choices\":[]}\n\ndata: [DONE]\n\n", -1},
		"comments":           {asSSE, ": {\"usage\":{\"total_tokens\":9}}\n\nid: {\"usage\":{\"total_tokens\":9}}\n\n", -1},
		"lines of JSON":      {"application/x-ndjson", "{\"usage\":{\"total_tokens\":3}}\n{\"usage\":{\"total_tokens\":12}}", 12},
		"no content type":    {"", `{"usage":{"total_tokens":12}}`, 12},
		"more than a number": {asJSON, `{"usage":{"input_tokens":9223372036854775800,"output_tokens":9223372036854775800}}`, -1},
	} {
		for _, zipped := range []bool{false, true} {
			body, h := []byte(test.body), http.Header{"Content-Type": {test.kind}}
			if zipped {
				body = zip(test.body)
				h.Set("Content-Encoding", "gzip")
			}
			for _, size := range []int{1, 2, 7, 4096, len(body)} {
				u := usageRule.Read(h)
				for i := 0; i < len(body); i += size {
					u.Add(body[i:min(i+size, len(body))])
				}
				tokens, ok := u.Tokens()
				u.Close()
				u.Close()
				if !ok {
					tokens = -1
				}
				if tokens != test.want {
					t.Errorf("%s, zipped %t, %d bytes at a time: %d, want %d", name, zipped, size, tokens, test.want)
				}
			}
		}
	}
}

// TestUsageOfUnreadableBodies: bodies of other codings and types are not read, and broken bodies do no harm.
func TestUsageOfUnreadableBodies(t *testing.T) {
	for _, h := range []http.Header{
		{"Content-Type": {asJSON}, "Content-Encoding": {"br"}},
		{"Content-Type": {"audio/mpeg"}},
	} {
		if usageRule.Read(h) != nil {
			t.Errorf("%v is read", h)
		}
	}
	before := runtime.NumGoroutine()
	whole := zip(`{"usage":{"total_tokens":12}}`)
	for i := range 100 {
		u := usageRule.Read(http.Header{"Content-Type": {asJSON}, "Content-Encoding": {"gzip"}})
		switch i % 4 {
		case 0:
			u.Add([]byte("this is no gzip at all, though it is said to be"))
			u.Add([]byte("more"))
		case 1:
			u.Add(whole[:len(whole)/2])
		case 2:
			u.Add(whole)
			u.Add([]byte("what follows the end"))
		}
		u.Close()
		u.Close()
	}
	if after := runtime.NumGoroutine(); after > before {
		t.Errorf("%d goroutines are left", after-before)
	}
}

func BenchmarkUsage(b *testing.B) {
	var stream strings.Builder
	for range 1000 {
		stream.WriteString("data: {\"id\":\"x\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"choices\":[{\"index\":0,\"delta\":{\"content\":\" word\"}}]}\n\n")
	}
	stream.WriteString("data: {\"choices\":[],\"usage\":{\"total_tokens\":12}}\n\n")
	for _, zipped := range []bool{false, true} {
		body, h := []byte(stream.String()), http.Header{"Content-Type": {asSSE}}
		if zipped {
			body = zip(stream.String())
			h.Set("Content-Encoding", "gzip")
		}
		b.Run(fmt.Sprintf("1000 events, zipped %t", zipped), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				u := usageRule.Read(h)
				for i := 0; i < len(body); i += 4096 {
					u.Add(body[i:min(i+4096, len(body))])
				}
				u.Close()
			}
		})
	}
}
