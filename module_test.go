package failover

import (
	"fmt"
	"net/http"
	"testing"
	"time"
)

func TestFailsOverToTheNextTier(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	p := startCaddy(t, fmt.Sprintf(`failover {
	name api
	endpoint http://%s {
		name one
	}
	endpoint http://%s {
		name two
	}
}`, one.address, two.address))
	if status, body := p.get("/"); status != 200 || body != "one" {
		t.Fatalf("healthy: got %d %q", status, body)
	}
	one.answer(http.StatusServiceUnavailable)
	for range 3 {
		if status, body := p.get("/"); status != 200 || body != "two" {
			t.Fatalf("503: got %d %q", status, body)
		}
	}
	one.down()
	for range 10 {
		if status, body := p.get("/"); status != 200 || body != "two" {
			t.Fatalf("down: got %d %q", status, body)
		}
	}
	if state := stateOf(t, "api", "one").breakerNow(); state != stateOpen {
		t.Errorf("the breaker of the dead endpoint is %v", state)
	}
	_ = time.Now
}
