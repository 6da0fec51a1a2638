package load

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/apifailover/caddy-failover/bench/internal/actor"
	"github.com/apifailover/caddy-failover/bench/internal/client"
	"github.com/apifailover/caddy-failover/bench/internal/stats"
)

// TestSink sends requests to a sink as proxies and as the closed loop do.
func TestSink(t *testing.T) {
	s, err := NewSink()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, body := range []io.Reader{nil, strings.NewReader("with a length"), io.MultiReader(strings.NewReader("in chunks"))} {
		resp, err := http.Post("http://"+s.Address()+"/2048", "text/plain", body)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || len(text) != 2048 {
			t.Errorf("%d bytes, %v; want 2048", len(text), err)
		}
	}
	loop, err := NewClosedLoop(s.Address(), client.H1, nil, client.Ask{}, 100, 4)
	if err != nil {
		t.Fatal(err)
	}
	defer loop.Close()
	took, _, err := loop.Send(t.Context(), 50)
	if err != nil || len(took) != 50 || stats.Quantile(took, 0) <= 0 {
		t.Errorf("took %v, %v", took, err)
	}
}

// TestAsk sends a request that looks as a peer wants it to.
func TestAsk(t *testing.T) {
	got := make(chan *http.Request, 10)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || !json.Valid(body) {
			t.Errorf("the body is %q, %v", body, err)
		}
		got <- r
		w.Write(body)
	}))
	defer server.Close()
	address := server.Listener.Addr().String()
	ask := client.Ask{Prefix: "/v1", JSON: true, Header: http.Header{"X-More": {"more"}}}
	loop, err := NewClosedLoop(address, client.H1, nil, ask, 100, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer loop.Close()
	if _, _, err := loop.Send(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	r := <-got
	if r.Method != http.MethodPost || r.URL.Path != "/v1/100" || r.ContentLength != 100 || r.Header.Get("X-More") != "more" || r.Header.Get("Content-Type") != "application/json" {
		t.Errorf("the request is %+v", r)
	}
}

func TestSkipChunks(t *testing.T) {
	in := bufio.NewReader(strings.NewReader("3\r\nabc\r\n10\r\n0123456789abcdef\r\n0\r\n\r\nnext"))
	if err := skipChunks(in); err != nil {
		t.Fatal(err)
	}
	if rest, _ := io.ReadAll(in); string(rest) != "next" {
		t.Errorf("what follows is %q", rest)
	}
}

// TestOpenLoop checks that latency counts from the due time of a request, and that a wrong
// response is detected.
func TestOpenLoop(t *testing.T) {
	a, err := actor.New("a")
	if err != nil {
		t.Fatal(err)
	}
	defer a.Crash()
	play := func(b actor.Behaviour) []Sample {
		a.Play(b)
		return NewOpenLoop(a.Address, 100, Clients{}).Run(t.Context(), time.Now(), 200*time.Millisecond)
	}
	for _, s := range play(actor.Well) {
		if !s.OK || s.Endpoint != "a" || s.Took < actor.QuickAnswer {
			t.Errorf("well: %+v", s)
		}
	}
	for _, s := range play(actor.CutBodies) {
		if s.What != "cut or wrong body" {
			t.Errorf("cut bodies: %+v", s)
		}
	}
	for i, s := range play(actor.FailPOST) {
		if post := i%2 == 1; s.OK == post || post && s.What != "503" {
			t.Errorf("POST 503: %+v", s)
		}
	}
	if a.Checks.Load() != 0 || a.Attempts.Load() != 60 || a.Refused.Load() != 10 {
		t.Errorf("%d checks, %d attempts, %d refused", a.Checks.Load(), a.Attempts.Load(), a.Refused.Load())
	}
}

func TestClients(t *testing.T) {
	a, err := actor.New("a")
	if err != nil {
		t.Fatal(err)
	}
	defer a.Crash()
	play := func(b actor.Behaviour, c Clients) []Sample {
		a.Play(b)
		return NewOpenLoop(a.Address, 100, c).Run(t.Context(), time.Now(), 200*time.Millisecond)
	}
	for i, s := range play(actor.Well, Clients{Deadly: 5}) {
		if deadly := i%5 == 0; !s.OK || deadly != (s.Endpoint == "") {
			t.Errorf("%d: %+v", i, s)
		}
	}
	if n := a.Refused.Load(); n != 4 {
		t.Errorf("%d deadly calls, want 4", n)
	}
	for i, s := range play(actor.FailModel(ModelOut), Clients{Models: true}) {
		if out := i%2 == 1; s.OK == out || out && s.What != "503" {
			t.Errorf("a model is out, %d: %+v", i, s)
		}
	}
	for name, b := range map[string]actor.Behaviour{
		"late":    actor.After(time.Minute, actor.Well),
		"stalled": actor.StallBodies,
	} {
		for _, s := range play(b, Clients{Patience: 100 * time.Millisecond}) {
			if s.OK {
				t.Errorf("%s: %+v", name, s)
			}
		}
	}
	for _, s := range play(actor.Says(200, "internal_error"), Clients{}) {
		if s.What != "cut or wrong body" {
			t.Errorf("an error in a 200: %+v", s)
		}
	}
	l := NewOpenLoop(a.Address, 100, Clients{Patience: 100 * time.Millisecond})
	a.Play(actor.Well)
	l.WarmUp(1)
	a.Play(actor.LoseConnections())
	if _, what := l.send(false); what == "" {
		t.Error("an answer on a lost connection")
	}
	if endpoint, what := l.send(false); endpoint != "a" {
		t.Errorf("on a new connection: %q", what)
	}
}
