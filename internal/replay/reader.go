package replay

import (
	"bytes"
	"io"
	"maps"
	"net/http"
	"sync/atomic"
	"time"
)

// A Reader is one attempt's reader of a recording. Close and Cut leave the client's body
// open.
type Reader struct {
	*Recording
	own http.Header // the trailers of the attempt's request; nil: it gets none

	// The recording's mutex guards these.
	at     int64 // bytes read
	spot   spot  // where at is in the pieces
	closed bool
	cut    error // the error of further reads; nil: not cut off
	idle   bool  // it was waiting for the client when it was cut off
	stage  stage // of the response

	*waits       // of the attempt, which may have several readers
	store  waits // the waits of the attempt's first reader

	conn atomic.Pointer[connection] // to the endpoint; nil: not known

	reader bytes.Reader // reads a body in memory; the fields above are not used then
	offset atomic.Int64 // bytes read of a large body in memory
}

// LargeWhole is the size of a body in memory, in bytes, above which a Reader counts the bytes read.
const LargeWhole = 64 << 10

// Counted returns a reader of body that adds the number of bytes read to at.
func Counted(body *bytes.Reader, at *atomic.Int64) io.ReadCloser { return &counted{body, at} }

type counted struct {
	body *bytes.Reader
	at   *atomic.Int64
}

// Read implements io.Reader.
func (c *counted) Read(p []byte) (int, error) {
	n, err := c.body.Read(p)
	c.at.Add(int64(n))
	return n, err
}

// Close implements io.Closer.
func (*counted) Close() error { return nil }

// Offset returns how many bytes the attempt has read. It is 0 for a body in memory of at most
// LargeWhole bytes.
func (r *Reader) Offset() int64 {
	if r.Recording.memory != nil {
		return r.offset.Load()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.at
}

// A spot is a place in the pieces of a recording.
type spot struct {
	piece int
	start int64 // offset of the piece in the body
}

// Send sets the body of out, the request of an attempt that began at began, and returns the
// attempt's reader.
func (rec *Recording) Send(out *http.Request, began time.Time) *Reader {
	if rec.memory != nil {
		rec.mu.Lock()
		r := rec.unusedLocked()
		r.closed = true // there is nothing to cut off
		rec.mu.Unlock()
		r.reader.Reset(rec.memory)
		out.Body = io.NopCloser(&r.reader) // net/http recognizes a bytes.Reader
		if len(rec.memory) > LargeWhole {
			out.Body = Counted(&r.reader, &r.offset)
		}
		out.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(rec.memory)), nil }
		return r
	}
	r := rec.NewReader(began)
	out.Body = r
	if r.own != nil {
		out.Trailer = r.own
	}
	out.GetBody = func() (io.ReadCloser, error) {
		if !rec.TakeBack() {
			return nil, errNotKept // net/http asks if nothing was sent, or if the request may be repeated
		}
		again := rec.NewReader(began)
		again.own = r.own // whichever reader reaches the end fills the request's trailers
		again.waits = r.waits
		return again, nil
	}
	return r
}

// unusedLocked returns a new reader: the first one is part of the recording.
func (rec *Recording) unusedLocked() *Reader {
	r := &rec.first
	if r.Recording != nil {
		r = new(Reader)
	}
	r.Recording, r.waits = rec, &r.store
	return r
}

// NewReader returns a reader from the start of the body, for an attempt that began at began.
func (rec *Recording) NewReader(began time.Time) *Reader {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	rec.open++
	r := rec.unusedLocked()
	r.began, r.own = began, maps.Clone(rec.announced)
	return r
}

// endLocked returns the error that the body ended with. At a good end it fills the attempt's
// trailers.
func (r *Reader) endLocked() error {
	if r.err == io.EOF && r.own != nil {
		clear(r.own)
		maps.Copy(r.own, r.trailer)
	}
	return r.err
}

// pieceLocked returns the piece with the next byte, which must exist.
func (r *Reader) pieceLocked() piece {
	rec := r.Recording
	if r.spot.piece >= len(rec.pieces) || r.spot.start < rec.from {
		r.spot = spot{start: rec.from}
	}
	from := rec.pieces[r.spot.piece]
	if r.at == r.spot.start+int64(from.n) {
		r.spot = spot{r.spot.piece + 1, r.at}
		from = rec.pieces[r.spot.piece]
	}
	return from
}

// copyLocked copies bytes from the pieces to p and moves past them.
func (r *Reader) copyLocked(p []byte) (n int) {
	for n < len(p) && r.at < r.Recording.total {
		n += copy(p[n:], r.nextLocked(int64(len(p)-n)))
	}
	return n
}

// Read implements io.Reader.
func (r *Reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	rec := r.Recording
	rec.mu.Lock()
	defer rec.mu.Unlock()
	if err := r.awaitLocked(); err != nil {
		return 0, err
	}
	n := r.copyLocked(p)
	if rec.err == io.EOF && r.at == rec.total {
		return n, r.endLocked()
	}
	return n, nil
}

// WriteUpTo writes n bytes of the body to w without copying them. If it writes fewer and returns no
// error, the body has ended.
func (r *Reader) WriteUpTo(w io.Writer, n int64) (written int64, err error) {
	rec := r.Recording
	rec.mu.Lock()
	defer rec.mu.Unlock()
	for written < n {
		if err := r.awaitLocked(); err == io.EOF {
			return written, nil
		} else if err != nil {
			return written, err
		}
		part := r.nextLocked(min(n-written, largestPart))
		rec.lent++
		rec.mu.Unlock()
		k, err := w.Write(part)
		rec.mu.Lock()
		rec.lent--
		written += int64(k)
		if err != nil {
			return written, err
		}
	}
	return written, nil
}

// largestPart is the largest part of a body that WriteUpTo writes at once, in bytes. The whole part
// counts as read before it is written.
const largestPart = 64 << 10

// nextLocked returns up to n next bytes of a piece, and moves past them. There must be one.
func (r *Reader) nextLocked(n int64) []byte {
	from := r.pieceLocked()
	part := from.Data[r.at-r.spot.start : from.n]
	part = part[:min(n, int64(len(part)))]
	r.at += int64(len(part))
	return part
}

// awaitLocked waits until the recording has the next byte. If there will be none, it returns the
// error of the Read.
func (r *Reader) awaitLocked() error {
	rec := r.Recording
	waits := false
	defer func() {
		if waits {
			r.waits.end(time.Now())
		}
	}()
	for {
		switch {
		case r.closed:
			return ErrReplaced
		case r.cut != nil:
			return r.cut
		case r.at < rec.from:
			return ErrReplaced // dropped
		case r.at < rec.total:
			return nil
		case rec.err != nil && (rec.err == io.EOF || r.stage != answering):
			return r.endLocked()
		case rec.err != nil:
			rec.read.Wait() // until the response ends: see Answering
			continue
		}
		if !waits {
			waits = true
			r.waits.begin(time.Now())
		}
		if !rec.reading {
			rec.reading = true
			room := rec.roomToKeepLocked()
			keep := room != nil
			if !keep {
				room = rec.roomToPassLocked()
			}
			go rec.readInto(room, keep)
		}
		rec.read.Wait()
	}
}

// A stage is the progress of the response to an attempt.
type stage uint8

const (
	unanswered stage = iota
	answering
	answered
)

// Answering notes that the attempt's response goes to the client. From then on an error of the
// request body does not break the response: the transport closes the connection on such an error, so
// reads return it only when the response is over. If part of the body is still to come, Answering
// keeps net/http from discarding up to 256 KiB of it when an HTTP/1 response begins; the endpoint
// would get a body with a hole. The response then tells the client that its connection closes: net/http
// panics if it finds the end of such a body after the handler, and nobody may take the rest of the body for
// a request.
func (r *Reader) Answering(patience time.Duration) {
	rec := r.Recording
	if rec.memory != nil {
		return
	}
	rec.mu.Lock()
	over := r.stage == answered // it was held back
	if !over {
		r.stage = answering
	}
	early := !rec.inLocked()
	rec.mu.Unlock()
	if early && rec.client != nil {
		_ = http.NewResponseController(rec.client).EnableFullDuplex() // where it is supported
		if rec.Origin != nil && rec.Origin.ProtoMajor == 1 {
			rec.client.Header().Set("Connection", "close")
		}
	}
	if over {
		rec.endWithin(patience)
	}
}

// Answered notes that the attempt's response is over. If the client got it and has not sent the whole
// body, it must send the rest within patience, which is the same as for Answering; 0: no bound. The client
// of a response that is dropped has as long as before: the next attempt needs the body.
func (r *Reader) Answered(patience time.Duration) {
	rec := r.Recording
	if rec.memory != nil {
		return
	}
	rec.mu.Lock()
	got := r.stage == answering
	r.stage = answered
	rec.read.Broadcast()
	rec.mu.Unlock()
	if got {
		rec.endWithin(patience)
	}
}

// endWithin gives the client the time to send the rest of a body that is being read; 0: no bound.
func (rec *Recording) endWithin(patience time.Duration) {
	rec.mu.Lock()
	waits := rec.reading && !rec.inLocked()
	rec.mu.Unlock()
	if waits && patience > 0 {
		rec.StopReading(time.Now().Add(patience))
	}
}

// Begun reports whether any of the body has been read. Call it after the round trip has
// failed; r may be nil.
func (r *Reader) Begun() bool {
	if r == nil {
		return false
	}
	if r.Recording.memory != nil {
		return r.reader.Len() < len(r.Recording.memory)
	}
	r.Recording.mu.Lock()
	defer r.Recording.mu.Unlock()
	return r.at > 0
}

// Close implements io.Closer.
func (r *Reader) Close() error {
	rec := r.Recording
	rec.mu.Lock()
	if !r.closed {
		r.closed = true
		rec.open--
		rec.read.Broadcast()
		rec.releaseLocked()
	}
	rec.mu.Unlock()
	return nil
}

// CutIdle reports whether the reader was waiting for the client when it was cut off.
func (r *Reader) CutIdle() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.idle
}

// Cut makes reads fail with err, so that the attempt's round trip can end: net/http does not
// return before its read of the body does.
func (r *Reader) Cut(err error) {
	rec := r.Recording
	rec.mu.Lock()
	if rec.memory == nil && r.cut == nil {
		r.cut, r.idle = err, r.Waiting()
		rec.read.Broadcast()
	}
	rec.mu.Unlock()
}
