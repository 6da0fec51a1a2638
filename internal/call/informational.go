package call

import (
	"errors"
	"maps"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
)

// mostInformational is the largest number of informational answers that an attempt keeps.
const mostInformational = 16

// An informer keeps the informational answers (1xx) of an attempt whose call may move on, until the
// attempt's answer goes to the client. If the attempt fails, they are dropped.
type informer struct {
	pass func(int, textproto.MIMEHeader) error // gives an informational answer to the client
	kept []informational
}

type informational struct {
	code   int
	header textproto.MIMEHeader
}

var errSwitches = errors.New("malformed response: 101 over HTTP/2")

// keepInformational makes trace keep informational answers instead of passing them on, if the call
// may still move on. It ignores 100 Continue, which the server sends itself when the body is read.
func (a *Attempt) keepInformational(trace *httptrace.ClientTrace) {
	pass := trace.Got1xxResponse
	if pass == nil || int(a.Call.Attempts) >= a.Call.Handler.Retry.Attempts {
		return
	}
	// The transport calls this before it returns the attempt's answer.
	trace.Got1xxResponse = func(code int, header textproto.MIMEHeader) error {
		if code == http.StatusSwitchingProtocols { // HTTP/2 has none, and it would end the client's request
			return errSwitches
		}
		if a.informer == nil {
			a.informer = &informer{pass: pass}
		}
		if i := a.informer; code != http.StatusContinue && len(i.kept) < mostInformational {
			i.kept = append(i.kept, informational{code, maps.Clone(header)})
		}
		return nil
	}
}

// inform gives the client the kept informational answers, before the attempt's answer.
func (a *Attempt) inform() {
	if a.informer != nil {
		a.informer.inform()
	}
}

func (i *informer) inform() {
	for _, one := range i.kept {
		_ = i.pass(one.code, one.header)
	}
}
