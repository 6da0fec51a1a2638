package soak

import (
	"net/http"
	"time"

	"github.com/apifailover/caddy-failover/bench/internal/actor"
)

// A fate is what became of a request.
type fate struct {
	kind      string // and protocol
	failure   string // "": none
	cancelled bool   // by the client
}

// Failures that the rules allow. The endpoint broke off, as it knows itself, after
// the answer had begun; the plugin counts that as a failure. Once the protocol has
// been switched the plugin has no part in what follows, and a reload may end it
// too.
const (
	explained = "broken off after it had begun"
	socketCut = "broken off after the protocol was switched"
)

// noAnswer begins failures in which the connection ended without a byte.
const noAnswer = "no answer: "

func (f fate) failed(failure string) fate {
	f.failure = failure
	return f
}

// broke reports whether the endpoint of an answer broke it off: it has crashed
// since the request was sent, or said that it would break off.
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
