package failover

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// errReplaced is what the reader of an attempt that was given up gets.
var errReplaced = errors.New("request body belongs to another attempt now")

// errSourcePanicked is what remains of a client's body whose reader panicked.
var errSourcePanicked = errors.New("reading the request body panicked")

// A recording is a client's request body, kept while it is sent so that another
// attempt can send it again: first the record, then what is still unread.
// Recording delays nothing. Past its limit the record is dropped, and what has
// been sent cannot be sent again.
//
// A small body of a declared length is read before the first attempt instead.
type recording struct {
	source io.Reader
	limit  int64  // negative: keep nothing
	expect int64  // the declared length, or -1
	small  bool   // to be read before the first attempt
	memory []byte // a small body, once it has been read; the transport may hold on to it
	// The client's trailers, which come with the end of source. An attempt that has
	// been given up may still be at source while another begins, so where there may
	// be two each has trailers of its own, which are filled at its end of the body.
	trailer   http.Header
	announced http.Header // what was in trailer at first; nil where it is shared
	strips    bool        // trailers must not carry credentials

	mu      sync.Mutex
	read    sync.Cond // reading has ended, or a reader was cut off
	data    *[]byte   // what was read, nil before that and after it was dropped
	total   int64     // bytes read from source
	err     error     // what source ended with
	reading bool      // a reader is at source
	dropped bool      // data does not hold everything
	final   bool      // no other attempt will follow
	open    int       // replays that may still read
	first   replay    // room for that of the first attempt
}

// record prepares the body of a request for being sent more than once; nil if
// there is none.
func (p *Policy) record(r *http.Request) *recording {
	if r.Body == nil || r.Body == http.NoBody {
		return nil
	}
	return p.newRecording(r)
}

func (p *Policy) newRecording(r *http.Request) *recording {
	rec := &recording{source: r.Body, limit: p.retry.buffer, expect: r.ContentLength, trailer: r.Trailer, strips: p.stripsAll}
	if r.ContentLength > rec.limit || !p.edits &&
		(p.retry.attempts < 2 || !p.rematches && !p.hasQuotas && len(p.nextOn) == 0 && !p.retry.repeatable(r)) {
		// what may be tried again then has failed before anything was sent
		rec.limit = -1
	}
	if rec.limit >= 0 {
		rec.announced = maps.Clone(r.Trailer)
	}
	rec.small = p.small(r)
	rec.read.L = &rec.mu
	return rec
}

// replayable tells whether another attempt could send the body from its start.
func (rec *recording) replayable() bool {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	return !rec.dropped && (rec.err == nil || rec.err == io.EOF)
}

// complete tells whether the whole body is in, and can be sent again.
func (rec *recording) complete() bool {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	return !rec.dropped && (rec.err == io.EOF || rec.err == nil && rec.expect >= 0 && rec.total == rec.expect)
}

// broken tells whether the client's body could not be read to its end.
func (rec *recording) broken() bool {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	return rec.err != nil && rec.err != io.EOF
}

// finish says that no attempt after the current one will need the record.
func (rec *recording) finish() {
	rec.mu.Lock()
	rec.final = true
	rec.releaseLocked()
	rec.mu.Unlock()
}

func (rec *recording) releaseLocked() {
	if rec.final && rec.open == 0 {
		rec.dropLocked()
	}
}

func (rec *recording) dropLocked() {
	rec.dropped = true
	if rec.data != nil {
		bodyBuffers.Put(rec.data)
		rec.data = nil
	}
}

// bodyBuffers holds *[]byte; each is at most a policy's buffer large.
var bodyBuffers = sync.Pool{New: func() any { return new([]byte) }}

// keepLocked adds what was read from source to the record.
func (rec *recording) keepLocked(p []byte) {
	rec.total += int64(len(p))
	switch {
	case len(p) == 0 || rec.dropped:
	case rec.total > rec.limit:
		rec.dropLocked()
	case rec.final:
		rec.dropped = true // but what is in data may still have to be read
	default:
		if rec.data == nil {
			rec.data = bodyBuffers.Get().(*[]byte)
			*rec.data = slices.Grow((*rec.data)[:0], int(max(rec.expect, int64(len(p)))))
		}
		*rec.data = append(*rec.data, p...)
	}
}

// A replay is one attempt's reader of a recording. Closing it, or cutting it
// off, leaves the client's body open.
type replay struct {
	*recording
	attempt *attempt
	at      int64
	own     http.Header // trailers; nil: the recording's
	closed  bool        // guarded by the recording's mutex

	// How long the attempt has waited for the client.
	waited  atomic.Int64 // nanoseconds
	waiting atomic.Int64 // since when, nanoseconds after it began plus one; 0: not now

	reader bytes.Reader // of a body in memory, which is all that is used then
}

// send makes the body part of an attempt's request.
func (rec *recording) send(a *attempt, out *http.Request) {
	if rec.memory != nil {
		rec.mu.Lock()
		a.sent = rec.unusedLocked()
		a.sent.closed = true // there is nothing to cut off
		rec.mu.Unlock()
		a.sent.reader.Reset(rec.memory)
		out.Body = io.NopCloser(&a.sent.reader) // as net/http knows bodies in memory
		out.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(rec.memory)), nil }
		return
	}
	a.sent = rec.replay(a)
	out.Body = a.sent
	if a.sent.own != nil {
		out.Trailer = a.sent.own
	}
	out.GetBody = func() (io.ReadCloser, error) {
		if !rec.replayable() {
			return nil, errReplaced
		}
		again := rec.replay(a)
		again.own = a.sent.own // which are the request's, whoever reads its body
		return again, nil
	}
}

// unusedLocked is a replay that no attempt has yet.
func (rec *recording) unusedLocked() *replay {
	r := &rec.first
	if r.recording != nil {
		r = new(replay)
	}
	r.recording = rec
	return r
}

// replay makes an attempt's reader from the start of the recording.
func (rec *recording) replay(a *attempt) *replay {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	rec.open++
	r := rec.unusedLocked()
	r.attempt, r.own = a, maps.Clone(rec.announced)
	return r
}

// endLocked is how the body ends for this reader.
func (r *replay) endLocked() error {
	if r.err == io.EOF && r.own != nil {
		clear(r.own)
		maps.Copy(r.own, r.trailer)
	}
	return r.err
}

// Read implements io.Reader.
func (r *replay) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	rec := r.recording
	rec.mu.Lock()
	defer rec.mu.Unlock()
	waited := false
	for {
		switch {
		case r.closed:
			return 0, errReplaced
		case rec.data != nil && r.at < int64(len(*rec.data)):
			n := copy(p, (*rec.data)[r.at:])
			r.at += int64(n)
			return n, nil
		case r.at < rec.total:
			return 0, errReplaced // dropped
		case rec.err != nil:
			return 0, r.endLocked()
		case !rec.reading:
			return r.readSourceLocked(p)
		}
		if !waited {
			waited = true
			r.attempt.sent.waitBegins(time.Now())
			defer func() { r.attempt.sent.waitEnds(time.Now()) }()
		}
		rec.read.Wait()
	}
}

func (r *replay) readSourceLocked(p []byte) (n int, err error) {
	rec := r.recording
	rec.reading = true
	rec.mu.Unlock()
	func() {
		err = errSourcePanicked // unless Read returns
		defer func() {
			rec.mu.Lock()
			rec.reading = false
			rec.keepLocked(p[:n])
			if err != nil {
				rec.err = err
				if rec.strips {
					for _, field := range credentialFields {
						delete(rec.trailer, field)
					}
				}
			}
			rec.read.Broadcast()
		}()
		r.attempt.sent.waitBegins(time.Now())
		n, err = rec.source.Read(p)
		r.attempt.sent.waitEnds(time.Now())
	}()
	if r.closed {
		return 0, errReplaced
	}
	r.at += int64(n)
	if err != nil {
		err = r.endLocked()
	}
	return n, err
}

// waitBegins marks the time until waitEnds as spent waiting for the client.
func (r *replay) waitBegins(now time.Time) {
	r.waiting.Store(int64(now.Sub(r.attempt.began)) + 1)
}

func (r *replay) waitEnds(now time.Time) {
	if since := r.waiting.Swap(0); since != 0 {
		r.waited.Add(max(0, int64(now.Sub(r.attempt.began))-(since-1)))
	}
}

// begun tells, once the round trip has failed, whether any of the body has been
// handed out.
func (r *replay) begun() bool {
	if r == nil {
		return false
	}
	if r.recording.memory != nil {
		return r.reader.Len() < len(r.recording.memory)
	}
	r.recording.mu.Lock()
	defer r.recording.mu.Unlock()
	return r.at > 0
}

// Close implements io.Closer.
func (r *replay) Close() error {
	rec := r.recording
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
