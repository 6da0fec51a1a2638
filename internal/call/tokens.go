package call

import (
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/apifailover/caddy-failover/internal/answer"
	"github.com/apifailover/caddy-failover/internal/endpoint"
	"github.com/apifailover/caddy-failover/internal/jsondoc"
	"github.com/apifailover/caddy-failover/internal/target"
)

// At an endpoint with a limit of tokens, an attempt books tokens when it begins, by the size that
// the request allows for its answer. The usage that the answer states then corrects the booking.

// TokenRules say which fields of requests and answers state numbers of tokens. They are read-only.
type TokenRules struct {
	Usage *answer.UsageRule
	Most  [][]string // paths of request fields with the largest number of tokens in the answer
}

// bytesPerToken is about how many bytes of a JSON request are one token.
const bytesPerToken = 4

// asked returns how many tokens a call may use: an estimate for its body, and the largest number
// that its request allows for the answer. It is 0 if the request states no such number.
func (rules *TokenRules) asked(c *Call) int64 {
	if c.body == nil {
		return 0
	}
	body := c.body.Whole()
	if len(body) == 0 || !mayBeJSON(c.Request.Header) {
		return 0
	}
	n := jsondoc.NewNumbers(rules.Most)
	n.Add(body)
	most := int64(0)
	for i := range rules.Most {
		if value, ok := n.Largest(i); ok {
			most = max(most, value)
		}
	}
	if most == 0 {
		return 0
	}
	return min(most, maxAsked) + int64(len(body)/bytesPerToken)
}

// maxAsked bounds what a request can ask for.
const maxAsked = 1 << 40

// mayBeJSON reports whether a body may be JSON.
func mayBeJSON(h http.Header) bool {
	kind := h.Get("Content-Type")
	return kind == "" || strings.Contains(strings.ToLower(kind), "json")
}

// asked returns how many tokens the call may use, as TokenRules.asked; 0: unknown.
func (c *Call) asked() int64 {
	if c.extras == nil {
		return 0
	}
	return c.extras.asked
}

// tokensAt returns the tokens of an attempt at a target; nil if they do not count there.
func (c *Call) tokensAt(t *target.Target) *endpoint.Tokens {
	if !t.Bounds.Meters() {
		return nil
	}
	return &endpoint.Tokens{Asked: c.asked()}
}

// meter makes resp read the tokens that an answer states while its body is read.
func (a *Attempt) meter(resp *http.Response) {
	if a.Tokens == nil || resp.StatusCode == http.StatusSwitchingProtocols {
		return
	}
	m := &meteredBody{ReadCloser: resp.Body, attempt: a, served: resp.StatusCode < http.StatusBadRequest}
	if resp.Body == http.NoBody {
		m.end(true)
		return
	}
	m.usage = a.Call.Handler.Tokens.Usage.Read(resp.Header)
	resp.Body = m
}

// A meteredBody is an answer's body whose tokens are counted. Close may be called during a Read.
type meteredBody struct {
	io.ReadCloser
	attempt *Attempt
	served  bool // the status is below 400, so the request was processed

	mu    sync.Mutex
	usage *answer.Usage // nil: the body's form is unknown, or the body has ended
	over  bool
}

// Read implements io.Reader.
func (m *meteredBody) Read(p []byte) (int, error) {
	n, err := m.ReadCloser.Read(p)
	if n > 0 {
		m.mu.Lock()
		if m.usage != nil {
			m.usage.Add(p[:n])
		}
		m.mu.Unlock()
	}
	if err != nil {
		m.end(err == io.EOF)
	}
	return n, err
}

// Close implements io.Closer.
func (m *meteredBody) Close() error {
	m.end(false)
	return m.ReadCloser.Close()
}

// end corrects the attempt's booking. whole says that the body was read to its end.
func (m *meteredBody) end(whole bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.over {
		return
	}
	m.over = true
	tokens, stated := int64(0), false
	if m.usage != nil {
		tokens, stated = m.usage.Tokens()
		m.usage.Close()
		m.usage = nil
	}
	a, now := m.attempt, time.Now()
	switch s, bounds := a.Target.State, a.Target.Bounds; {
	case stated && whole:
		s.Used(a, now, bounds, tokens)
	case stated:
		s.UsedAtLeast(a, now, bounds, tokens)
	default:
		s.UsedUnknown(a, now, bounds, m.served)
	}
}
