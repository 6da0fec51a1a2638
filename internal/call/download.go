package call

import (
	"io"
	"time"
)

const (
	// largeRead is how much of a body a read brings at least before the client's pace is
	// of interest: what is smaller fits the buffers on the way.
	largeRead = 4 << 10
	// inBuffers is how much of a body may be on the way before the client has to read on.
	inBuffers = 64 << 10
	// sendersWait is how long an endpoint that cannot send on must have waited for the
	// client before an answer that it cuts is the client's doing.
	sendersWait = time.Second
	// caughtUp is how long a read waits, at least, when nothing is left to read.
	caughtUp = 5 * time.Millisecond
)

// A download is how the client of a large answer reads it. It is the reading goroutine's
// own. Nil is that of a client that has not been slow.
type download struct {
	got    int64         // bytes
	read   time.Time     // when the latest read ended
	behind time.Duration // how long the client has kept the endpoint waiting since it last caught up
}

// slow tells whether the client has kept the endpoint waiting for so long that the
// endpoint may have given up.
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

// readAnswer reads the body of the answer. Small ones cost no clock.
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
