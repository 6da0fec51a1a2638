package call

import (
	"io"
	"time"
)

const (
	// largeRead is the smallest read, in bytes, after which a body is watched. Smaller ones fit
	// the buffers on the way.
	largeRead = 4 << 10
	// inBuffers is how many bytes of a body the buffers on the way may hold.
	inBuffers = 64 << 10
	// sendersWait is how long an endpoint must have waited for the client before a cut answer is
	// the client's fault.
	sendersWait = time.Second
	// caughtUp is the shortest read that had to wait for the endpoint.
	caughtUp = 5 * time.Millisecond
)

// A download measures how the client reads a large answer. Only the reading goroutine uses it. A
// nil *download is a client that is not slow.
type download struct {
	got    int64         // bytes
	read   time.Time     // when the latest read ended
	behind time.Duration // how long the client has kept the endpoint waiting since it last caught up
}

// slow reports whether the client has kept the endpoint waiting so long that the endpoint may
// have given up.
func (d *download) slow() bool { return d != nil && d.behind >= sendersWait }

// readFrom reads from body, and notes who waits for whom.
func (d *download) readFrom(body io.Reader, into []byte) (int, error) {
	if d.got < inBuffers {
		n, err := body.Read(into)
		d.got += int64(n)
		return n, err
	}
	began := time.Now()
	if !d.read.IsZero() {
		d.behind += max(0, began.Sub(d.read))
	}
	n, err := body.Read(into)
	d.read = time.Now()
	if n > 0 && d.read.Sub(began) > caughtUp {
		d.behind = 0
	}
	return n, err
}

// readAnswer reads the answer's body. It reads no clock for small ones.
func (a *Attempt) readAnswer(into []byte) (int, error) {
	if a.download != nil {
		return a.download.readFrom(a.answer, into)
	}
	n, err := a.answer.Read(into)
	if n >= largeRead {
		a.download = &download{got: int64(n)}
	}
	return n, err
}
