package llm

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// canonical is the text of every whole answer: sixty words.
var canonical = strings.TrimSpace(strings.Repeat("Any provider may fail while it still says that all is well. ", 5))

// A Pace holds the durations of faults.
type Pace struct {
	FirstToken time.Duration `json:"first_token_ns"` // of a provider that is slow to begin
	Stall      time.Duration `json:"stall_ns"`
	Silence    time.Duration `json:"silence_ns"`
	Down       time.Duration `json:"down_ns"` // of a provider that comes back
	Token      time.Duration `json:"token_ns"`
	Calls      int           `json:"calls"` // to the provider that comes back
	Between    time.Duration `json:"between_ns"`
}

// The paces of the catalogue's two profiles.
var (
	full = Pace{20 * time.Second, 30 * time.Second, 120 * time.Second, 60 * time.Second, 15 * time.Millisecond, 20, 4 * time.Second}
	fast = Pace{3 * time.Second, 4 * time.Second, 15 * time.Second, 6 * time.Second, 5 * time.Millisecond, 10, 1200 * time.Millisecond}
)

// A provider speaks like OpenAI and like Anthropic on loopback. The model that it is asked for says how it fails:
// its name begins with the fault's. Any other model works.
type provider struct {
	Address string
	Second  string // another address of the same provider, for a fallback

	pace   Pace
	server http.Server
	over   chan struct{} // closed by close

	mu    sync.Mutex
	began time.Time // the latest reset
	log   []asked
	count map[string]int // attempts by model
}

// asked is an attempt as the provider sees it.
type asked struct {
	At     time.Duration
	Model  string
	Status int // 0: no answer
	Prefix bool
}

func newProvider(pace Pace) (*provider, error) {
	p := &provider{pace: pace, over: make(chan struct{}), began: time.Now(), count: make(map[string]int)}
	p.server.Handler = p
	p.server.ErrorLog = log.New(io.Discard, "", 0)
	for _, address := range []*string{&p.Address, &p.Second} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		*address = l.Addr().String()
		go func() { _ = p.server.Serve(l) }()
	}
	return p, nil
}

func (p *provider) close() {
	close(p.over)
	_ = p.server.Close()
}

// reset forgets what the provider was asked. Faults that last a while begin anew.
func (p *provider) reset() {
	p.mu.Lock()
	p.began, p.log = time.Now(), nil
	clear(p.count)
	p.mu.Unlock()
}

// seen returns what the provider was asked since the latest reset.
func (p *provider) seen() []asked {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]asked(nil), p.log...)
}

// note logs an attempt, and returns how many there were for its model, with it, and when it came.
func (p *provider) note(model string, prefix bool) (index, attempt int, at time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	at = time.Since(p.began)
	p.log = append(p.log, asked{At: at, Model: model, Prefix: prefix})
	p.count[model]++
	return len(p.log) - 1, p.count[model], at
}

// answers notes the status of an attempt.
func (p *provider) answers(index, status int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if index < len(p.log) {
		p.log[index].Status = status
	}
}

// pause waits for d, or returns false early when the client has left or the provider is closed.
func (p *provider) pause(r *http.Request, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-r.Context().Done():
	case <-p.over:
	}
	return false
}

// ServeHTTP implements http.Handler.
func (p *provider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/reset" {
		p.reset()
		return
	}
	var request struct {
		Model    string
		Stream   bool
		Messages []struct{ Role string }
	}
	if err := json.NewDecoder(r.Body).Decode(&request); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	n := len(request.Messages)
	prefix := n > 0 && request.Messages[n-1].Role == "assistant"
	index, attempt, at := p.note(request.Model, prefix)
	a := answer{w, r, p, index, request.Model, strings.HasSuffix(r.URL.Path, "/messages")}
	if !a.refused(attempt, at, prefix) {
		a.p.answers(index, http.StatusOK)
		if request.Stream {
			a.stream()
		} else {
			a.whole()
		}
	}
}

// An answer is one that the provider gives.
type answer struct {
	w         http.ResponseWriter
	r         *http.Request
	p         *provider
	index     int
	model     string
	anthropic bool
}

// fault returns the name of the fault.
func (a answer) fault() string { name, _, _ := strings.Cut(a.model, "-"); return name }

// refused answers with an error, or with nothing, if the fault wants that.
func (a answer) refused(attempt int, at time.Duration, prefix bool) bool {
	switch name := a.fault(); {
	case name == "s01" && attempt == 1:
		a.w.Header().Set("Retry-After", "2")
		a.refuse(http.StatusTooManyRequests, "rate_limit_error", "rate_limit_exceeded")
	case name == "s02":
		a.refuse(http.StatusTooManyRequests, "rate_limit_error", "rate_limit_exceeded")
	case name == "s03" && attempt == 1:
		a.refuse(http.StatusInternalServerError, "api_error", "server_error")
	case name == "s04" || name == "s16" || name == "s15" && at < a.p.pace.Down:
		a.refuse(http.StatusServiceUnavailable, "overloaded_error", "server_error")
	case name == "s05" && attempt == 1:
		a.cut(true)
	case name == "s06":
		a.p.pause(a.r, a.p.pace.Silence)
		a.cut(false)
	case name == "s12":
		a.refuse(http.StatusBadRequest, "invalid_request_error", "context_length_exceeded")
	case name == "s13":
		a.refuse(http.StatusBadRequest, "invalid_request_error", "content_policy_violation")
	case prefix && strings.HasSuffix(a.model, "noprefill"):
		a.refuse(http.StatusBadRequest, "invalid_request_error", "invalid_prefill")
	default:
		return false
	}
	return true
}

func (a answer) refuse(status int, kind, code string) {
	a.p.answers(a.index, status)
	a.w.Header().Set("Content-Type", "application/json")
	a.w.WriteHeader(status)
	if a.anthropic {
		fmt.Fprintf(a.w, `{"type":"error","error":{"type":%q,"message":"no"}}`, kind)
		return
	}
	fmt.Fprintf(a.w, `{"error":{"message":"no","type":%q,"param":null,"code":%q}}`, kind, code)
}

// cut closes the connection before any byte of an answer, with a reset if reset is set.
func (a answer) cut(reset bool) {
	conn, _, err := http.NewResponseController(a.w).Hijack()
	if err != nil {
		return
	}
	if tcp, ok := conn.(*net.TCPConn); ok && reset {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

// whole answers with a JSON document.
func (a answer) whole() {
	if a.fault() == "s07" && !a.p.pause(a.r, a.p.pace.FirstToken) {
		return
	}
	body := fmt.Sprintf(`{"id":"1","object":"chat.completion","created":1,"model":%q,"choices":[{"index":0,"message":{"role":"assistant","content":%q},"finish_reason":"stop"}],`+
		`"usage":{"prompt_tokens":21,"completion_tokens":60,"total_tokens":81}}`, a.model, canonical)
	if a.anthropic {
		body = fmt.Sprintf(`{"id":"1","type":"message","role":"assistant","model":%q,"content":[{"type":"text","text":%q}],"stop_reason":"end_turn",`+
			`"usage":{"input_tokens":21,"output_tokens":60}}`, a.model, canonical)
	}
	if a.fault() == "s10" {
		body = body[:len(body)/2] + `"oops`
	}
	a.w.Header().Set("Content-Type", "application/json")
	a.w.Header().Set("Content-Length", fmt.Sprint(len(body)))
	switch a.fault() {
	case "s08", "s14":
		body = body[:len(body)*6/10]
	case "s09":
		_ = http.NewResponseController(a.w).Flush()
		a.p.pause(a.r, a.p.pace.Stall)
		body = ""
	}
	_, _ = a.w.Write([]byte(body)) // net/http closes the connection if that is too little
}

// stream answers with events.
func (a answer) stream() {
	flusher := http.NewResponseController(a.w)
	a.w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	_ = flusher.Flush()
	if a.fault() == "s07" && !a.p.pause(a.r, a.p.pace.FirstToken) {
		return
	}
	say := func(text string) {
		fmt.Fprint(a.w, text)
		_ = flusher.Flush()
	}
	shape := openaiEvents
	if a.anthropic {
		shape = anthropicEvents
	}
	say(fmt.Sprintf(shape.begin, a.model))
	for i, word := range strings.Fields(canonical) {
		switch fault := a.fault(); {
		case (fault == "s08" || fault == "s14") && i == 40:
			panic(http.ErrAbortHandler)
		case fault == "s09" && i == 20:
			a.p.pause(a.r, a.p.pace.Stall)
			panic(http.ErrAbortHandler)
		case fault == "s10" && i == 10:
			say(shape.malformed)
		}
		if i > 0 {
			word = " " + word
		}
		say(fmt.Sprintf(shape.word, word))
		if !a.p.pause(a.r, a.p.pace.Token) {
			return
		}
	}
	say(fmt.Sprintf(shape.end, a.model))
	if a.fault() != "s11" {
		say(shape.last)
	}
}

// events are the texts of a stream.
type events struct{ begin, word, malformed, end, last string }

var openaiEvents = events{
	begin:     `data: {"id":"1","object":"chat.completion.chunk","created":1,"model":%q,"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}` + "\n\n",
	word:      `data: {"id":"1","object":"chat.completion.chunk","created":1,"choices":[{"index":0,"delta":{"content":%q},"finish_reason":null}]}` + "\n\n",
	malformed: `data: {"id":"1","object":"chat.completion.chunk","choices":[{"delta":{"content": ` + "\n\n",
	end: `data: {"id":"1","object":"chat.completion.chunk","created":1,"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}` + "\n\n" +
		`data: {"id":"1","object":"chat.completion.chunk","created":1,"model":%q,"choices":[],"usage":{"prompt_tokens":21,"completion_tokens":60,"total_tokens":81}}` + "\n\n",
	last: "data: [DONE]\n\n",
}

var anthropicEvents = events{
	begin: "event: message_start\n" + `data: {"type":"message_start","message":{"id":"1","type":"message","role":"assistant","model":%q,"content":[],"stop_reason":null,"usage":{"input_tokens":21,"output_tokens":1}}}` + "\n\n" +
		"event: content_block_start\n" + `data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}` + "\n\n",
	word:      "event: content_block_delta\n" + `data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":%q}}` + "\n\n",
	malformed: "event: content_block_delta\n" + `data: {"type":"content_block_delta","delta":{"text": ` + "\n\n",
	end: "event: content_block_stop\n" + `data: {"type":"content_block_stop","index":0}` + "\n\n" +
		"event: message_delta\n" + `data: {"type":"message_delta","model":%q,"delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":60}}` + "\n\n",
	last: "event: message_stop\n" + `data: {"type":"message_stop"}` + "\n\n",
}
