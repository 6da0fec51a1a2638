package soak

import (
	"errors"
	"testing"
	"time"

	"github.com/apifailover/caddy-failover/bench/internal/actor"
	"github.com/apifailover/caddy-failover/bench/internal/websocket"
)

// TestBroke checks that a crash explains only the failures of requests sent before it.
func TestBroke(t *testing.T) {
	a, err := actor.New("a")
	if err != nil {
		t.Fatal(err)
	}
	defer a.Crash()
	m := &traffic{endpoints: []*actor.Actor{a}}
	began := time.Now()
	conn, resp, err := websocket.Open(a.Address, actor.SocketPath, nil)
	if err != nil || conn == nil {
		t.Fatalf("opening: %v, %v", resp, err)
	}
	defer conn.Close()
	if err := conn.Talk(1, 0, false); err != nil {
		t.Errorf("talking: %v", err)
	}
	if m.broke(resp, began) {
		t.Error("the endpoint is said to have crashed before it has")
	}
	a.Crash()
	if err := conn.Talk(1, 0, false); err == nil || errors.Is(err, websocket.ErrWrong) {
		t.Errorf("an endpoint that has crashed: %v", err)
	}
	if !m.broke(resp, began) || m.broke(resp, time.Now()) {
		t.Error("a crash explains what was sent before it, and nothing else")
	}
	resp.Header.Set(actor.BreaksHeader, "yes")
	if !m.broke(resp, time.Now()) {
		t.Error("an endpoint that says it breaks off explains that it does")
	}
}
