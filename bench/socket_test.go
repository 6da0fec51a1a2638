package main

import (
	"errors"
	"net/http"
	"testing"
	"time"
)

// TestSocket talks to an endpoint as the soak's clients do through a proxy.
func TestSocket(t *testing.T) {
	a, err := newActor("a")
	if err != nil {
		t.Fatal(err)
	}
	defer a.crash()
	open := func() (*socket, *http.Response) {
		s, resp, err := openSocket(a.address)
		if err != nil || s == nil || resp.Header.Get(endpointName) != "a" {
			t.Fatalf("opening: %v, %v", resp, err)
		}
		t.Cleanup(func() { s.Close() })
		return s, resp
	}
	for _, endpointEnds := range []bool{false, true} {
		s, _ := open()
		if err := s.talk(3, time.Millisecond, endpointEnds); err != nil {
			t.Errorf("talking: %v", err)
		}
	}
	a.play(slow)
	if s, _ := open(); s.talk(1, 0, true) != nil {
		t.Error("a slow endpoint has no WebSockets")
	}
	a.play(unavailable)
	if s, resp, err := openSocket(a.address); err != nil || s != nil || resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("an endpoint that answers 503: %v, %v, %v", s, resp, err)
	}

	a.play(well)
	traffic := &soakTraffic{soak: &soakRun{actors: [3]*actor{a, {}, {}}}}
	began := time.Now()
	s, resp := open()
	if err := s.talk(1, 0, false); err != nil {
		t.Errorf("talking: %v", err)
	}
	if traffic.broke(resp, began) {
		t.Error("the rules say that the endpoint has crashed, before it has")
	}
	a.crash()
	if err := s.talk(1, 0, false); err == nil || errors.Is(err, errWrong) {
		t.Errorf("an endpoint that has crashed: %v", err)
	}
	if !traffic.broke(resp, began) || traffic.broke(resp, time.Now()) {
		t.Error("a crash explains what was sent before it, and nothing else")
	}
}
