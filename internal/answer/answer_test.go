package answer

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/apifailover/caddy-failover/internal/jsondoc"
	"github.com/apifailover/caddy-failover/internal/outcome"
)

// rule reads `<status> [json <path>] [<regexp>] as <meaning>`.
func rule(t testing.TB, words string) Rule {
	t.Helper()
	fields := strings.Fields(words)
	set, err := outcome.ParseStatusSet(fields[:1])
	if err != nil {
		t.Fatal(err)
	}
	r := Rule{Status: set}
	if fields = fields[1:]; fields[0] == "json" {
		if r.Path, err = jsondoc.ParsePath(fields[1]); err != nil {
			t.Fatal(err)
		}
		fields = fields[2:]
	}
	if fields[0] != "as" {
		r.Text = regexp.MustCompile(fields[0])
		fields = fields[1:]
	}
	if m, ok := ParseMeaning(fields[1]); ok {
		r.As = m
	} else {
		t.Fatal(words)
	}
	return r
}

func rulesOf(t testing.TB, words ...string) *Rules {
	t.Helper()
	var list []Rule
	for _, w := range words {
		list = append(list, rule(t, w))
	}
	return NewRules(list)
}

// zipped returns a text as gzip, flushed after each part.
func zipped(parts ...string) []string {
	var out []string
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	for _, part := range parts {
		_, _ = w.Write([]byte(part))
		w.Flush()
		out = append(out, packed.String())
		packed.Reset()
	}
	w.Close()
	return append(out, packed.String())
}

const (
	asEvents = "text/event-stream"
	asJSON   = "application/json"
)

// TestExaminer: the examiner knows the matching rule as soon as a body allows it.
// TestFramesHoldNothingUp checks that rules see the first message of an Amazon event stream, and need no more.
func TestFramesHoldNothingUp(t *testing.T) {
	rules := NewRules([]Rule{rule(t, "200 throttlingException as failure")})
	h := http.Header{"Content-Type": {"application/vnd.amazon.eventstream"}}
	for text, matches := range map[string]bool{":event-type chunk": false, ":exception-type throttlingException": true} {
		_, e := rules.Examine(200, h)
		frame := append(binary.BigEndian.AppendUint32(nil, uint32(4+len(text))), text...)
		for i, b := range frame {
			if over := e.Add([]byte{b}); over != (i == len(frame)-1) && !matches {
				t.Errorf("%s: over is %t after %d of %d bytes", text, over, i+1, len(frame))
			}
		}
		if (e.Matched() != nil) != matches {
			t.Errorf("%s: matched %v", text, e.Matched())
		}
	}
}

func TestExaminer(t *testing.T) {
	const role = `data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}` + "\n\n"
	const word = `data: {"choices":[{"delta":{"content":"hi"}}]}` + "\n\n"
	const overload = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\"}}\n\n"
	const start = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{}}\n\n"
	const block = "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n"
	for _, test := range []struct {
		name   string
		rules  []string
		kind   string // Content-Type
		coding string
		parts  []string
		after  int    // parts it takes to know; one more than there are: the end
		as     string // "": nothing
	}{
		{"text", []string{"200 overloaded as next"}, "text/plain", "", []string{"so ", "over", "loaded", "!"}, 3, "next"},
		{"text, no match", []string{"200 overloaded as next"}, "text/plain", "", []string{"so ", "be it"}, 3, ""},
		{"no type", []string{"200 x as next"}, "", "", []string{"x"}, 1, "next"},
		{"an end that has not come", []string{"200 ^no$ as next"}, "text/plain", "", []string{"no", " way"}, 3, ""},
		{"an end that has come", []string{"200 ^no$ as next"}, "text/plain", "", []string{"no"}, 2, "next"},
		{"nothing", []string{"200 ^$ as next"}, "text/plain", "", nil, 1, "next"},
		{"too long", []string{"200 z as next"}, "text/plain", "", []string{strings.Repeat("x", LooksAt-1), "x", "z"}, 2, ""},
		{"in the last byte", []string{"200 z as next"}, "text/plain", "", []string{strings.Repeat("x", LooksAt-1), "z"}, 2, "next"},
		{"an error first", []string{"200 overloaded_error as next"}, asEvents, "", []string{overload}, 1, "next"},
		{"in parts", []string{"200 overloaded_error as next"}, "Text/Event-Stream; charset=utf-8", "", strings.SplitAfter(overload, "\n"), 3, "next"},
		{"a word first", []string{"200 overloaded_error as next"}, asEvents, "", []string{word, overload}, 1, ""},
		{"an error after comments and pings", []string{"200 overloaded_error as next"}, asEvents, "",
			[]string{": hello\n\n", "event: ping\ndata: {}\n\n", "data: {\"type\": \"ping\"}\n\n", "id: 1\nretry: 3\n\n", overload}, 5, "next"},
		{"an error after a role", []string{"200 overloaded_error as next"}, asEvents, "", []string{role, overload}, 2, "next"},
		{"an error after Anthropic's beginning", []string{"200 overloaded_error as next"}, asEvents, "", []string{start, block, overload}, 3, "next"},
		{"a word after a role", []string{"200 overloaded_error as next"}, asEvents, "", []string{role, word, overload}, 2, ""},
		{"response.created", []string{"200 json error.code rate as held"}, asEvents, "",
			[]string{"event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"error\":null}}\n\n", "data: {\"type\":\"error\",\"error\":{\"code\":\"rate_limit_exceeded\"}}\n\n"}, 2, "held"},
		{"CRLF", []string{"200 json error.type over as next"}, asEvents, "", []string{strings.ReplaceAll(overload, "\n", "\r\n")}, 1, "next"},
		{"CR", []string{"200 json error.type over as next"}, asEvents, "", []string{strings.ReplaceAll(overload, "\n", "\r")}, 1, "next"},
		{"data in two lines", []string{"200 json error.type over as next"}, asEvents, "", []string{"data: {\"error\":\ndata: {\"type\":\"over\"}}\n\n"}, 1, "next"},
		{"a mark of byte order", []string{"200 json error over as next"}, asEvents, "", []string{"\xef\xbb", "\xbfdata: {\"error\":\"over\"}\n\n"}, 2, "next"},
		{"an event that does not end", []string{"200 json error over as next"}, asEvents, "", []string{"data: {\"error\":\"over\"}\n"}, 2, "next"},
		{"only comments", []string{"200 over as next"}, asEvents, "", []string{": x\n\n", ": x\n\n"}, 3, ""},
		{"[DONE]", []string{"200 over as next"}, asEvents, "", []string{role, "data: [DONE]\n\n"}, 2, ""},
		{"lines", []string{"200 json error over as next"}, "application/x-ndjson", "", []string{"\n", "{\"error\":\"over\"}", "\n"}, 3, "next"},
		{"lines, a word first", []string{"200 json error over as next"}, "application/x-ndjson", "", []string{"{\"response\":\"hi\"}\n{\"error\":\"over\"}\n"}, 1, ""},
		{"a field", []string{"200 json error.code 42 as failure"}, asJSON, "", []string{`{"a":[1,{"error":7}],"err`, `or":{"code":42`, `}`, `}`}, 3, "failure"},
		{"a field that is text", []string{`200 json error.code ^mod\x65l$ as failure`}, asJSON, "", []string{`{"error":{"code":"mod\u0065l"}}`}, 1, "failure"},
		{"another field", []string{"200 json error.code 42 as failure"}, asJSON, "", []string{`{"error":{"message":"42"}}`}, 1, ""},
		{"any error", []string{"200 json error as failure"}, asJSON, "", []string{`{"error":{"message":"42"}`}, 1, "failure"},
		{"null is no error", []string{"200 json error . as failure"}, asJSON, "", []string{`{"error":null,"x":1}`}, 1, ""},
		{"an element of a list", []string{"200 json error.code -32603 as failure"}, asJSON, "", []string{`[{"result":1},`, `{"error":{"code":-32603}}`, `]`}, 2, "failure"},
		{"no list has it", []string{"200 json error.code -32603 as failure"}, asJSON, "", []string{`[{"result":1}`, `]`}, 2, ""},
		{"no JSON", []string{"200 json error x as failure"}, "text/html", "", []string{"<html>"}, 1, ""},
		{"broken JSON", []string{"200 json error x as failure"}, asJSON, "", []string{`{"a" 1}`}, 1, ""},
		{"the first rule counts", []string{"200 aa as failure", "200 a as next"}, "text/plain", "", []string{"a", "b"}, 3, "next"},
		{"and waits for no later one", []string{"200 aa as failure", "200 a as next"}, "text/plain", "", []string{"a", "a"}, 2, "failure"},
		{"nor for one that says the same", []string{"200 aa as next", "200 a as next"}, "text/plain", "", []string{"a"}, 1, "next"},
		{"any body comes last", []string{"200 json error x as failure", "200 as next"}, asJSON, "", []string{`{`, `}`}, 2, "next"},
		{"gzip", []string{"200 over as next"}, "text/plain", "gzip", zipped("so ", "over"), 2, "next"},
		{"GZIP", []string{"200 over as next"}, "text/plain", "GZIP", zipped("over"), 1, "next"},
		{"x-gzip", []string{"200 over as next"}, asEvents, "X-Gzip, identity", zipped(": x\n\n", overload), 2, "next"},
		{"gzip that is cut off", []string{"200 over as next"}, "text/plain", "gzip", []string{zipped("over")[0][:12]}, 2, ""},
		{"gzip that is none", []string{"200 over as next"}, "text/plain", "gzip", []string{"over"}, 2, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := http.Header{}
			for field, value := range map[string]string{"Content-Type": test.kind, "Content-Encoding": test.coding} {
				if value != "" {
					h.Set(field, value)
				}
			}
			r, e := rulesOf(t, test.rules...).Examine(200, h)
			if r != nil || e == nil {
				t.Fatal("there is no examiner of the body")
			}
			known := 0
			for i, part := range test.parts {
				if e.Add([]byte(part)) {
					known = i + 1
					break
				}
			}
			if known == 0 {
				known = len(test.parts) + 1
				e.End()
			}
			as := ""
			if e.Matched() != nil {
				as = e.Matched().As.String()
			}
			if known != test.after || as != test.as {
				t.Errorf("%q after %d parts, want %q after %d", as, known, test.as, test.after)
			}
		})
	}
}

// TestExamineWithoutTheBody checks that status and headers decide where they can.
func TestExamineWithoutTheBody(t *testing.T) {
	for _, test := range []struct {
		name   string
		status int
		kind   string
		coding string
		rules  []string
		as     string
	}{
		{"another status", 404, asJSON, "", []string{"200 x as next"}, ""},
		{"any body", 404, asJSON, "", []string{"4xx as next"}, "next"},
		{"the first of these", 404, asJSON, "", []string{"404 as ok", "4xx as next"}, "ok"},
		{"whatever its body says", 404, asJSON, "", []string{"404 x as next", "4xx as next"}, "next"},
		{"a picture", 200, "image/png", "", []string{"200 x as next"}, ""},
		{"an unknown coding", 200, asJSON, "br", []string{"200 x as next", "200 json a b as failure"}, ""},
		{"packed twice", 200, asJSON, "gzip, gzip", []string{"200 x as next"}, ""},
	} {
		h := http.Header{"Content-Type": {test.kind}, "Content-Encoding": {test.coding}}
		r, e := rulesOf(t, test.rules...).Examine(test.status, h)
		as := ""
		if r != nil {
			as = r.As.String()
		}
		if e != nil || as != test.as {
			t.Errorf("%s: %q, looks %t", test.name, as, e != nil)
		}
	}
	if r, e := (*Rules)(nil).Examine(200, nil); r != nil || e != nil {
		t.Error("no rules have an examiner")
	}
}

// TestAwait: Begun returns Content after the first event with content.
func TestAwait(t *testing.T) {
	if Await(http.Header{"Content-Type": {asJSON}}) != nil {
		t.Error("there is an examiner for JSON")
	}
	e := Await(http.Header{"Content-Type": {asEvents}})
	for i, part := range []struct {
		text string
		want Weight
	}{
		{": hi\n\n", Nothing},
		{"event: ping\ndata: 1\n\n", Nothing},
		{"data:\n\n", Nothing},
		{"data: {\"choices\":[],\"prompt_filter_results\":[]}\n", Nothing},
		{"\n", Preamble},
		{"data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"tool_calls\":[{}]}}]}\n\n", Content},
	} {
		if over := e.Add([]byte(part.text)); e.Begun() != part.want || over != (part.want == Content) {
			t.Errorf("part %d: %d, over %t", i, e.Begun(), over)
		}
	}
	flood := Await(http.Header{"Content-Type": {asEvents}})
	for n := 0; !flood.Add([]byte(": ping\n\n")); n++ {
		if n > LooksAt {
			t.Fatal("it waits for ever")
		}
	}
	if flood.Begun() != Content {
		t.Error("a flood of pings does not begin")
	}
}

// TestWorkIsBounded checks that the examiner does not match a body again for each of its bytes.
func TestWorkIsBounded(t *testing.T) {
	for _, kind := range []string{"text/plain", asJSON, asEvents, "application/x-ndjson"} {
		_, e := rulesOf(t, "200 zzz as next", "200 json a.b zzz as failure").Examine(200, http.Header{"Content-Type": {kind}})
		for range LooksAt {
			if e.Add([]byte("[")) {
				break
			}
		}
		if e.work > 40*LooksAt {
			t.Errorf("%s: %d bytes of work", kind, e.work)
		}
	}
}

// FuzzParts checks that the matching rule does not depend on how a body is split.
func FuzzParts(f *testing.F) {
	f.Add([]byte("event: error\r\ndata: {\"error\":{\"type\":\"over\"}}\r\n\r\n"), uint8(3), uint8(1))
	f.Add([]byte(": x\n\ndata: {\"choices\":[{\"delta\":{\"role\":\"a\"}}]}\n\ndata: over\n\n"), uint8(1), uint8(1))
	f.Add([]byte(`{"a":[{"error":{"type":"over"}}],"error":{"type":"over"}}`), uint8(2), uint8(0))
	f.Add([]byte("{\"x\":1}\n{\"error\":{\"type\":\"over\"}}\n"), uint8(5), uint8(2))
	f.Fuzz(func(t *testing.T, body []byte, step, kind uint8) {
		kinds := [...]string{asJSON, asEvents, "application/x-ndjson", "text/plain"}
		h := http.Header{"Content-Type": {kinds[int(kind)%len(kinds)]}}
		verdict := func(step int) string {
			_, e := rulesOf(t, "200 json error.type over as failure", "200 over as next").Examine(200, h)
			for rest := body; len(rest) > 0; {
				n := min(step, len(rest))
				if e.Add(rest[:n]) {
					break
				}
				rest = rest[n:]
			}
			e.End()
			return fmt.Sprint(e.Matched() != nil && e.Matched().As == Failure, e.Matched() != nil)
		}
		if in, whole := verdict(int(step)%64+1), verdict(len(body)+1); in != whole && bytes.IndexByte(body, '\r') < 0 {
			t.Errorf("%s in parts, %s whole", in, whole)
		}
	})
}

// FuzzUnpack checks that Unpack decodes at most LooksAt bytes of gzip, and returns other
// bodies as they are.
func FuzzUnpack(f *testing.F) {
	f.Add([]byte("plain"), uint16(1), uint16(9))
	f.Add([]byte{0x1f, 0x8b, 8, 0}, uint16(1), uint16(0))
	f.Add([]byte("bomb"), uint16(60000), uint16(65535))
	f.Fuzz(func(t *testing.T, body []byte, times, cut uint16) {
		if got := Unpack(http.Header{}, body); !bytes.Equal(got, body) {
			t.Fatalf("%q became %q", body, got)
		}
		h := http.Header{"Content-Encoding": {"X-GZIP"}}
		if got := Unpack(h, body); len(got) > max(LooksAt, len(body)) {
			t.Fatalf("%d bytes of %d", len(got), len(body))
		}
		plain := bytes.Repeat(body, int(times)%(4*LooksAt/max(1, len(body))+2))
		packed := strings.Join(zipped(string(plain)), "")
		want := plain[:min(len(plain), LooksAt)]
		if got := Unpack(h, []byte(packed)); !bytes.Equal(got, want) {
			t.Fatalf("%d bytes became %d", len(plain), len(got))
		}
		const header = 10
		if at := min(int(cut), len(packed)); at >= header {
			if got := Unpack(h, []byte(packed[:at])); !bytes.HasPrefix(want, got) {
				t.Fatalf("cut off at %d: %q of %q", at, got, want)
			}
		}
	})
}
