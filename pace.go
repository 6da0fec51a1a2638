package failover

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

// A pace is how the client of a large answer reads it. It is the reading goroutine's
// own. Nil is the pace of a client that has not been slow.
type pace struct {
	got    int64         // bytes
	read   time.Time     // when the latest read ended
	behind time.Duration // how long the client has kept the endpoint waiting since it last caught up
}

// slow tells whether the client has kept the endpoint waiting for so long that the
// endpoint may have given up.
func (p *pace) slow() bool { return p != nil && p.behind >= sendersWait }

// readFrom reads from body, and notes who waits for whom.
func (p *pace) readFrom(body io.Reader, into []byte) (int, error) {
	if p.got < inBuffers {
		n, err := body.Read(into)
		p.got += int64(n)
		return n, err
	}
	began := time.Now()
	if !p.read.IsZero() {
		p.behind += max(0, began.Sub(p.read))
	}
	n, err := body.Read(into)
	p.read = time.Now()
	if n > 0 && p.read.Sub(began) > caughtUp {
		p.behind = 0
	}
	return n, err
}

// readAnswer reads the body of the answer. Small ones cost no clock.
func (a *attempt) readAnswer(into []byte) (int, error) {
	if a.pace != nil {
		return a.pace.readFrom(a.answer, into)
	}
	n, err := a.answer.Read(into)
	if n >= largeRead {
		a.pace = &pace{got: int64(n)}
	}
	return n, err
}
