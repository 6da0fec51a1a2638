package soak

import (
	"net/http"
	"time"

	"github.com/apifailover/caddy-failover/bench/internal/actor"
)

// A fate is the result of a request.
type fate struct {
	kind      string // kind and protocol
	failure   string // "" if it did not fail
	cancelled bool   // the client cancelled it
}

// Failures that are allowed. explained: the endpoint broke off the response after it had
// begun, and knows it; the plugin counts that as a failure. socketCut: after the protocol
// has been switched the plugin takes no part, and a reload may end the connection too.
const (
	explained = "broken off after it had begun"
	socketCut = "broken off after the protocol was switched"
	killed    = "cut off by a kill"
	starved   = "the machine stood still"
)

// Prefixes of failures: the connection ended without a byte, and the response had another status
// than the one that is wanted.
const (
	noAnswer    = "no answer: "
	otherStatus = "status "
)

func (f fate) failed(failure string) fate {
	f.failure = failure
	return f
}

// broke reports whether the endpoint broke off the response: it has crashed since the
// request was sent, or it announced that it would break off.
func (m *traffic) broke(resp *http.Response, sent time.Time) bool {
	if resp.Header.Get(actor.BreaksHeader) != "" {
		return true
	}
	for _, a := range m.endpoints {
		if a.Name == resp.Header.Get(actor.NameHeader) {
			return a.CrashedSince(sent)
		}
	}
	return false
}
