package call

import (
	"maps"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"sync"
	"sync/atomic"
)

// mostInformational is how many informational answers of an attempt are kept for its client.
const mostInformational = 16

// An informer keeps the informational answers (1xx) of an attempt whose call may move on, until
// its answer goes to the client: those of an attempt that failed do not. 100 Continue is not
// among them, since the server says that itself when the body is read.
type informer struct {
	on   atomic.Bool // for an attempt under way
	pass func(int, textproto.MIMEHeader) error
	kept []informational
	got  func(int, textproto.MIMEHeader) error // its own take, made once
}

type informational struct {
	code   int
	header textproto.MIMEHeader
}

// informers are pooled, since nearly no attempt has anything to keep.
var informers = sync.Pool{New: func() any {
	i := new(informer)
	i.got = i.take
	return i
}}

// take is called by the transport, before the attempt's answer comes.
func (i *informer) take(code int, header textproto.MIMEHeader) error {
	if i.on.Load() && code != http.StatusContinue && len(i.kept) < mostInformational {
		i.kept = append(i.kept, informational{code, maps.Clone(header)})
	}
	return nil
}

// keepInformational has informational answers kept that trace would pass on, if the call may
// still move on.
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

// inform passes on what was kept of the attempt whose answer goes to the client now.
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
