package actor

import (
	"crypto/tls"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/apifailover/caddy-failover/bench/internal/websocket"
)

// TestSocket opens WebSockets to an actor, as the clients of the soak do through a proxy.
func TestSocket(t *testing.T) {
	a, err := New("a")
	if err != nil {
		t.Fatal(err)
	}
	defer a.Crash()
	open := func() *websocket.Conn {
		t.Helper()
		conn, resp, err := websocket.Open(a.Address, SocketPath, nil)
		if err != nil || conn == nil || resp.Header.Get(NameHeader) != "a" {
			t.Fatalf("opening: %v, %v", resp, err)
		}
		t.Cleanup(func() { conn.Close() })
		return conn
	}
	for _, endpointEnds := range []bool{false, true} {
		if err := open().Talk(3, time.Millisecond, endpointEnds); err != nil {
			t.Errorf("talking: %v", err)
		}
	}
	a.Play(Slow)
	if err := open().Talk(1, 0, true); err != nil {
		t.Errorf("talking to a slow endpoint: %v", err)
	}
	a.Play(Unavailable)
	conn, resp, err := websocket.Open(a.Address, SocketPath, nil)
	if err != nil || conn != nil || resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("an endpoint that answers 503: %v, %v, %v", conn, resp, err)
	}
	a.Play(Well)
	conn = open()
	if err := conn.Talk(1, 0, false); err != nil {
		t.Errorf("talking: %v", err)
	}
	a.Crash()
	if err := conn.Talk(1, 0, false); err == nil || errors.Is(err, websocket.ErrWrong) {
		t.Errorf("an endpoint that has crashed: %v", err)
	}
}

// TestSecure asks an actor over HTTP/2 and TLS, also after a crash.
func TestSecure(t *testing.T) {
	a, err := NewSecure("a")
	if err != nil {
		t.Fatal(err)
	}
	defer a.Crash()
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: true}}
	for range 2 {
		resp, err := c.Get("https://" + a.Address + CallPath)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.ProtoMajor != 2 || resp.StatusCode != http.StatusOK || resp.Header.Get(NameHeader) != "a" {
			t.Errorf("%s %s from %q", resp.Proto, resp.Status, resp.Header.Get(NameHeader))
		}
		a.Crash()
		if _, err := c.Get("https://" + a.Address + CallPath); err == nil {
			t.Error("a crashed endpoint answers")
		}
		if err := a.Heal(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestFailModel asks for the model that fails, for another one, and for none.
func TestFailModel(t *testing.T) {
	a, err := New("a")
	if err != nil {
		t.Fatal(err)
	}
	defer a.Crash()
	a.Play(FailModel("x"))
	for body, want := range map[string]int{`{"model":"x"}`: 503, `{"model":"y"}`: 200, `{"input":"x"}`: 200, "x": 200} {
		resp, err := http.Post("http://"+a.Address+CallPath, "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s: status %d, want %d", body, resp.StatusCode, want)
		}
	}
	if n := a.Refused.Load(); n != 1 {
		t.Errorf("%d refused, want 1", n)
	}
}

// TestOnlyModel asks for the model that fails and for another one, and reads what is left of a quota.
func TestOnlyModel(t *testing.T) {
	a, err := New("a")
	if err != nil {
		t.Fatal(err)
	}
	defer a.Crash()
	ask := func(model string) *http.Response {
		t.Helper()
		r, err := http.NewRequest(http.MethodGet, "http://"+a.Address+CallPath, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set(ModelHeader, model)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp
	}
	a.Play(OnlyModel("x", Unavailable))
	if x, y := ask("x").StatusCode, ask("y").StatusCode; x != 503 || y != 200 {
		t.Errorf("the model that fails: %d, another: %d", x, y)
	}
	a.Play(UseUp(3))
	if resp := ask("x"); resp.StatusCode != 200 || resp.Header.Get("X-RateLimit-Remaining") != "0" || resp.Header.Get("X-RateLimit-Reset") != "3" {
		t.Errorf("a used up quota: %s, %v", resp.Status, resp.Header)
	}
}

// TestCrash checks that a crashed actor refuses connections, and serves the same address
// again after Heal.
func TestCrash(t *testing.T) {
	a, err := New("a")
	if err != nil {
		t.Fatal(err)
	}
	defer a.Crash()
	url := "http://" + a.Address + CallPath
	before := time.Now()
	if a.CrashedSince(before) {
		t.Error("crashed before it crashed")
	}
	for range 20 {
		a.Crash()
		if _, err := http.Get(url); err == nil {
			t.Fatal("a crashed endpoint answers")
		}
		if err := a.Heal(); err != nil {
			t.Fatal(err)
		}
		resp, err := http.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	if !a.CrashedSince(before) || a.CrashedSince(time.Now()) {
		t.Error("CrashedSince does not know when it crashed")
	}
	if got := a.Attempts.Load(); got != 20 {
		t.Errorf("%d attempts, want 20", got)
	}
}
