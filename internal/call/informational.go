package call

import (
	"maps"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"sync"
	"sync/atomic"
)

// mostInformational is the most informational answers of an attempt that are kept.
const mostInformational = 16

// An informer keeps the informational answers (1xx) of an attempt whose call may move on, until its
// answer goes to the client. Those of a failed attempt are dropped. It ignores 100 Continue, which
// the server sends itself when the body is read.
type informer struct {
	on   atomic.Bool                           // the attempt is under way
	pass func(int, textproto.MIMEHeader) error // gives an informational answer to the client
	kept []informational
	got  func(int, textproto.MIMEHeader) error // take as a func value, made once
}

type informational struct {
	code   int
	header textproto.MIMEHeader
}

// informers are pooled because nearly every attempt keeps nothing.
var informers = sync.Pool{New: func() any {
	i := new(informer)
	i.got = i.take
	return i
}}

// take keeps an informational answer. The transport calls it before the attempt's answer.
func (i *informer) take(code int, header textproto.MIMEHeader) error {
	if i.on.Load() && code != http.StatusContinue && len(i.kept) < mostInformational {
		i.kept = append(i.kept, informational{code, maps.Clone(header)})
	}
	return nil
}

// keepInformational makes trace keep informational answers instead of passing them on, if the call
// may still move on.
func (a *Attempt) keepInformational(trace *httptrace.ClientTrace) {
	if trace.Got1xxResponse == nil || int(a.Call.Attempts) >= a.Call.Handler.Retry.Attempts {
		return
	}
	i := informers.Get().(*informer)
	i.pass = trace.Got1xxResponse
	i.on.Store(true)
	trace.Got1xxResponse = i.got
	a.informer = i
}

// inform gives the client what was kept. Call it when the attempt's answer goes to the client.
func (a *Attempt) inform() {
	i := a.informer
	if i == nil {
		return
	}
	a.informer = nil
	i.on.Store(false)
	for _, one := range i.kept {
		_ = i.pass(one.code, one.header)
	}
	i.kept, i.pass = nil, nil
	informers.Put(i) // no informational answer follows a final one
}
