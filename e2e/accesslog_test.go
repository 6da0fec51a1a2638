package e2e

import (
	"fmt"
	"net/http"
	"reflect"
	"testing"
)

// wantField checks the field that the plugin adds to an access log entry.
func wantField(t *testing.T, line map[string]any, pool, endpoint string, attempts int, outcome string) {
	t.Helper()
	field, _ := line["failover"].(map[string]any)
	if waited, ok := field["waited"].(float64); !ok || waited < 0 {
		t.Errorf("waited is %v", field["waited"])
	}
	want := map[string]any{"pool": pool, "endpoint": endpoint, "attempts": float64(attempts), "outcome": outcome, "waited": field["waited"]}
	if !reflect.DeepEqual(field, want) {
		t.Errorf("the field is %v, want %v", field, want)
	}
}

// TestTheAccessLogTellsOfTheCall checks the field of calls that succeed at once, move on, fail, or reach
// no endpoint.
func TestTheAccessLogTellsOfTheCall(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	p := startCaddy(t, "log\n"+edited("api", retrying, []*api{one, two}, "priority 1", "priority 2"))
	p.get().want(t, "while all is well", 200, "one")
	one.answer(http.StatusServiceUnavailable)
	p.get().want(t, "while the first fails", 200, "two")
	two.answer(http.StatusBadGateway)
	if got := p.get(); got.status != 502 {
		t.Errorf("while both fail: %+v", got)
	}
	p.trip("one")
	p.trip("two")
	if got := p.get(); got.status != 503 {
		t.Errorf("while both are out: %+v", got)
	}
	lines := p.accessLog(4)
	wantField(t, lines[0], "api", "one", 1, "success")
	wantField(t, lines[1], "api", "two", 2, "success")
	wantField(t, lines[2], "api", "two", 2, "status")
	wantField(t, lines[3], "api", "", 0, "all_down")
}

// TestTheAccessLogTellsOfWaits checks the field of waits that end in vain or because the client leaves.
func TestTheAccessLogTellsOfWaits(t *testing.T) {
	one := newAPI(t, "one")
	p := startCaddy(t, "log\n"+site("all_down wait 2s", one))
	p.trip("one")
	leave, left := p.leaving("GET", "/")
	p.awaitWaiting(1)
	leave()
	receive(t, "the client's end", left)
	p.accessLog(1)
	if got := p.get(); got.status != 503 {
		t.Errorf("got %+v", got)
	}
	lines := p.accessLog(2)
	wantField(t, lines[0], "api", "", 0, "cancelled")
	wantField(t, lines[1], "api", "", 0, "all_down")
	if waited := lines[1]["failover"].(map[string]any)["waited"].(float64); waited < 1.9 {
		t.Errorf("it waited for %v", waited)
	}
}

// TestTheAccessLogOfAReverseProxy checks that the field is there with the policy, and only then.
func TestTheAccessLogOfAReverseProxy(t *testing.T) {
	one := newAPI(t, "one")
	p := startCaddy(t, fmt.Sprintf(`log
handle /plain {
	reverse_proxy %s
}
handle {
	reverse_proxy %s {
		lb_policy failover {
			name api
		}
	}
}`, one.address, one.address))
	p.get()
	p.call("GET", "/plain", "")
	lines := p.accessLog(2)
	wantField(t, lines[0], "api", one.address, 1, "success")
	if field, ok := lines[1]["failover"]; ok {
		t.Errorf("without a pool: %v", field)
	}
}

// TestTheAccessLogOfUnfitRequests checks that the field says that no endpoint got the request.
func TestTheAccessLogOfUnfitRequests(t *testing.T) {
	one := newAPI(t, "one")
	p := startCaddy(t, fmt.Sprintf("log\nfailover {\n\tname api\n\tendpoint http://%s/v1 {\n\t\tname one\n\t}\n}", one.address))
	if got := p.call("GET", "/../../x", ""); got.status != 400 {
		t.Errorf("got %+v", got)
	}
	wantField(t, p.accessLog(1)[0], "api", "", 0, "unsent")
}
