package call

import (
	"errors"
	"io"
	"net/http"
	"sync/atomic"

	"github.com/apifailover/caddy-failover/internal/answer"
)

// A filling is an answer's body whose first answer.LooksAt bytes a goroutine reads. Read and Close
// stop that goroutine. Read waits for its current read.
type filling struct {
	held *held
	stop atomic.Bool   // the goroutine begins no further read
	done chan struct{} // closed when the goroutine has ended
}

// errBodyPanicked is the error of an answer whose body panicked during a read.
var errBodyPanicked = errors.New("reading the response's body panicked")

// fill replaces an answer's body by a filling and starts its goroutine. After the last read it calls
// then with that read's error: io.EOF at the end of the body, nil if the body goes on.
func (a *Attempt) fill(resp *http.Response, then func(error)) *filling {
	h, ok := resp.Body.(*held)
	if !ok {
		h = &held{rest: resp.Body}
	}
	f := &filling{held: h, done: make(chan struct{})}
	resp.Body = f
	if h.rest == http.NoBody {
		h.err, h.rest = io.EOF, nil
	}
	if h.err != nil {
		then(h.err)
		close(f.done)
		return f
	}
	go f.run(a, then)
	return f
}

func (f *filling) run(a *Attempt, then func(error)) {
	h := f.held
	defer close(f.done)
	defer func() {
		if r := recover(); r != nil {
			a.Call.Handler.LogPanic("the body of a response panicked", r)
			h.err = errBodyPanicked
		}
		then(h.err)
	}()
	for h.err == nil && h.total < answer.LooksAt && !h.full && !f.stop.Load() {
		if err := h.read(a, h.rest, answer.LooksAt-h.total); err != nil {
			h.err = err
		}
	}
	if h.err == io.EOF {
		h.rest.Close()
		h.rest = nil
	}
}

// Read implements io.Reader.
func (f *filling) Read(p []byte) (int, error) {
	f.stop.Store(true)
	<-f.done
	return f.held.Read(p)
}

// Close implements io.Closer.
func (f *filling) Close() error {
	f.stop.Store(true)
	select {
	case <-f.done:
		return f.held.Close()
	default:
	}
	err := f.held.rest.Close() // ends the goroutine's read
	go func() {
		<-f.done
		f.held.Close()
	}()
	return err
}
