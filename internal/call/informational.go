package call

import (
	"maps"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
)

// mostInformational is the most informational answers of an attempt that are kept.
const mostInformational = 16

// An informer keeps the informational answers (1xx) of an attempt whose call may move on, until its
// answer goes to the client. Those of a failed attempt are dropped.
type informer struct {
	pass func(int, textproto.MIMEHeader) error // gives an informational answer to the client
	kept []informational
}

type informational struct {
	code   int
	header textproto.MIMEHeader
}

// keepInformational makes trace keep informational answers instead of passing them on, if the call
// may still move on. It ignores 100 Continue, which the server sends itself when the body is read.
func (a *Attempt) keepInformational(trace *httptrace.ClientTrace) {
	pass := trace.Got1xxResponse
	if pass == nil || int(a.Call.Attempts) >= a.Call.Handler.Retry.Attempts {
		return
	}
	// The transport calls this before it returns the attempt's answer.
	trace.Got1xxResponse = func(code int, header textproto.MIMEHeader) error {
		if a.informer == nil {
			a.informer = &informer{pass: pass}
		}
		if i := a.informer; code != http.StatusContinue && len(i.kept) < mostInformational {
			i.kept = append(i.kept, informational{code, maps.Clone(header)})
		}
		return nil
	}
}

// inform gives the client what was kept. Call it when the attempt's answer goes to the client.
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
