package call

import (
	"io"
	"sync/atomic"
	"time"

	"github.com/apifailover/caddy-failover/internal/endpoint"
)

const (
	// largeRead is the smallest read, in bytes, from which on a body is watched. Smaller bodies fit
	// the buffers between the endpoint and the client.
	largeRead = 4 << 10
	// inBuffers is how many bytes of a body these buffers may hold.
	inBuffers = 64 << 10
	// sendersWait is how long an endpoint must have waited for the client before a cut answer is
	// the client's fault.
	sendersWait = time.Second
	// caughtUp is the shortest duration of a read that had to wait for the endpoint.
	caughtUp = 5 * time.Millisecond
)

// A download measures the rate of a large or long answer, and how fast its client reads it. A nil
// *download stands for a client that is not slow. Only the reading goroutine uses it, except for flow
// and measured.
type download struct {
	large  bool          // a read has returned at least largeRead bytes
	got    int64         // bytes read
	read   time.Time     // when the latest read ended
	behind time.Duration // how long the client has kept the endpoint waiting since it last caught up

	measured atomic.Bool // flow is in use
	flow     endpoint.Flow
}

// slow reports whether the client has kept the endpoint waiting so long that the endpoint may
// have given up.
func (d *download) slow() bool { return d != nil && d.behind >= sendersWait }

// readFrom reads from body, and notes whether the client or the endpoint keeps the other waiting.
func (d *download) readFrom(body io.Reader, into []byte) (int, error) {
	if !d.large || d.got < inBuffers {
		n, err := d.flowFrom(body, into)
		d.large = d.large || n >= largeRead
		if d.large {
			d.got += int64(n)
		}
		return n, err
	}
	began := time.Now()
	if !d.read.IsZero() {
		d.behind += max(0, began.Sub(d.read))
	}
	n, err := d.flowFrom(body, into)
	d.read = time.Now()
	if n > 0 && d.read.Sub(began) > caughtUp {
		d.behind = 0
	}
	return n, err
}

// flowFrom reads from body, and reports the read to flow if that is in use.
func (d *download) flowFrom(body io.Reader, into []byte) (int, error) {
	if d == nil || !d.measured.Load() {
		return body.Read(into)
	}
	d.flow.Waits()
	n, err := body.Read(into)
	if n > 0 || err == nil {
		d.flow.Got(into[:n])
	}
	return n, err
}

// readAnswer reads the answer's body. It reads no clock for small bodies.
func (a *Attempt) readAnswer(into []byte) (int, error) {
	if d := a.download.Load(); d != nil {
		return d.readFrom(a.answer, into)
	}
	n, err := a.answer.Read(into)
	if n >= largeRead {
		d := a.makeDownload()
		d.large, d.got = true, int64(n)
	}
	return n, err
}

// makeDownload returns the attempt's download, which it makes if there is none. The reading
// goroutine and the watcher may call it at once.
func (a *Attempt) makeDownload() *download {
	a.download.CompareAndSwap(nil, new(download))
	return a.download.Load()
}

// Flow implements endpoint.Watched.
func (a *Attempt) Flow() *endpoint.Flow {
	if d := a.download.Load(); d != nil && d.measured.Load() {
		return &d.flow
	}
	return nil
}

// MeasureFlow implements endpoint.Watched. A read is under way unless the client has not taken what the
// reads before brought.
func (a *Attempt) MeasureFlow() {
	d := a.makeDownload()
	d.flow.Waits()
	d.measured.Store(true)
}
