package faults

import (
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/apifailover/caddy-failover/bench/internal/actor"
)

// TestScene builds each script's scene, plays its fault, and heals it: then the primary answers
// on the address that the proxy has.
func TestScene(t *testing.T) {
	c := &http.Client{Timeout: 20 * time.Second}
	for _, s := range scripts {
		around, err := newScene(s.set)
		if err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
		s.begin(around)
		if err := s.heal(around); err != nil {
			t.Errorf("%s: healing: %v", s.name, err)
		}
		primary := around.addresses()[0]
		if s.set.http2 == (primary == around.primary().Address) {
			t.Errorf("%s: the proxy has the address %s of the primary, which listens at %s", s.name, primary, around.primary().Address)
		}
		if s.set.engine == (around.engineAddress() == "") {
			t.Errorf("%s: the engine's address is %q", s.name, around.engineAddress())
		}
		if !s.set.http2 && s.name != "cold return" {
			resp, err := c.Get("http://" + primary + actor.CallPath)
			if err != nil {
				t.Fatalf("%s: %v", s.name, err)
			}
			resp.Body.Close()
			if n := around.attempts(); resp.StatusCode != http.StatusOK || n != (counts{primary: 1, all: 1}) {
				t.Errorf("%s: after the heal: %s, counts %+v", s.name, resp.Status, n)
			}
		}
		around.close()
	}
}

// TestPeers checks that each script has this plugin first and its variants next, all with names
// of their own.
func TestPeers(t *testing.T) {
	for _, s := range scripts {
		var names []string
		for i, p := range s.peers() {
			if i == 0 && p.Variant || i > 0 && p.Variant != (i <= len(s.also)) {
				t.Errorf("%s: %s is in place %d", s.name, p.Name, i)
			}
			if (p.Config == nil) != (p.Cannot != "") {
				t.Errorf("%s: %s has neither a configuration nor a reason for none, or both", s.name, p.Name)
			}
			if slices.Contains(names, p.Name) {
				t.Errorf("%s: two peers are %s", s.name, p.Name)
			}
			names = append(names, p.Name)
		}
	}
}
