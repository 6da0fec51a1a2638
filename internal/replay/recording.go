package replay

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/apifailover/caddy-failover/internal/memory"
)

// ErrReplaced is what the reader of an attempt that was given up gets.
var ErrReplaced = errors.New("request body belongs to another attempt now")

// errNotKept is what net/http gets that would send the body again.
var errNotKept = errors.New("sending the request again: its body was not kept")

// errConnectionLost is what the reader of an attempt gets that waits for the client
// while the endpoint closes the connection.
var errConnectionLost = errors.New("the endpoint closed the connection before the request was sent")

// errSourcePanicked is what remains of a client's body whose reader panicked.
var errSourcePanicked = errors.New("reading the request body panicked")

// A Recording is a client's request body, kept while it is sent so that another
// attempt can send it again: first the record, then what is still unread.
// Recording delays nothing. Past its limit, or where the process has no memory left
// for it, the record is dropped, and what has been sent cannot be sent again. Of a body that
// is not to be kept, the first part is held until the second is read: a connection may turn
// out to be closed before it has taken anything.
//
// The source is read on a goroutine of its own, which no attempt has to wait for:
// an attempt that is given up leaves while the client is silent, and what is read then
// goes to the attempt that lives.
//
// A small body of a declared length is read before the first attempt instead.
type Recording struct {
	source io.Reader
	Options
	expect int64  // the declared length, or -1
	memory []byte // a body that was read before; the transport may hold on to it
	// The client's trailers, which come with the end of source. Each attempt has
	// trailers of its own, which are filled at its end of the body.
	trailer   http.Header
	announced http.Header         // what was in trailer at first
	client    http.ResponseWriter // whose reading can be ended; nil: it cannot
	Before    time.Duration       // spent reading before the first attempt

	mu      sync.Mutex
	read    sync.Cond // reading has ended, or a reader was cut off
	pieces  []piece   // the body from offset from on
	from    int64     // 0 unless dropped
	total   int64     // bytes read from source
	taken   int64     // bytes of memory that are counted
	err     error     // what source ended with
	reading bool      // at source
	dropped bool      // pieces do not hold everything
	lacking bool      // there was no memory for it
	final   bool      // no other attempt will follow
	stopped bool      // the client has a time to send the rest
	handed  bool      // back
	late    bool      // the deadline passed while the body was read before the first attempt
	open    int       // replays that may still read
	first   Reader    // room for that of the first attempt
}

// Options say how a body is recorded.
type Options struct {
	Limit   int64          // bytes that are kept at most; negative: nothing is
	Small   bool           // to be read before the first attempt
	Strip   []string       // the trailers that no attempt gets, in any case and with _ for - as well
	NotKept *atomic.Uint64 // counts bodies for which there was no memory; nil: nobody does
	Origin  *http.Request  // that the proxy was given, which HandBack gives its body; nil: nobody does
}

// NewRecording is that of the body of a request, which has one. Nothing is kept of a body
// whose declared length is above the limit.
func NewRecording(r *http.Request, o Options) *Recording {
	if r.ContentLength > o.Limit {
		o.Limit = -1
	}
	rec := &Recording{Options: o, source: r.Body, expect: r.ContentLength, trailer: r.Trailer, announced: maps.Clone(r.Trailer)}
	rec.read.L = &rec.mu
	return rec
}

// piece is a part of a body.
type piece struct {
	*memory.Piece
	n int // bytes in it
}

// Fits tells whether the body is known to be kept whole, memory permitting.
func (rec *Recording) Fits() bool { return rec.expect >= 0 && rec.expect <= rec.Limit }

// Replayable tells whether another attempt could send the body from its start.
func (rec *Recording) Replayable() bool {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	return !rec.dropped && (rec.err == nil || rec.err == io.EOF)
}

// TakeBack says that nothing of what has been read was sent, and tells whether it can be
// sent now.
func (rec *Recording) TakeBack() bool {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	if rec.from == 0 && !rec.final {
		rec.dropped = false
	}
	return !rec.dropped && (rec.err == nil || rec.err == io.EOF)
}

// Complete tells whether the whole body is in, and can be sent again.
func (rec *Recording) Complete() bool {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	return !rec.dropped && (rec.err == io.EOF || rec.err == nil && rec.expect >= 0 && rec.total == rec.expect)
}

// Broken tells whether the client's body could not be read to its end.
func (rec *Recording) Broken() bool {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	return rec.err != nil && rec.err != io.EOF
}

// Error is what the client's body ended with; nil: it has not ended, or well.
func (rec *Recording) Error() error {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	if rec.err == io.EOF {
		return nil
	}
	return rec.err
}

// Finish says that no attempt after the current one will need the record.
func (rec *Recording) Finish() {
	rec.mu.Lock()
	rec.final = true
	rec.releaseLocked()
	rec.mu.Unlock()
}

// releaseLocked frees the record when nobody needs it any longer.
func (rec *Recording) releaseLocked() {
	if rec.final && rec.open == 0 && !rec.reading {
		rec.dropped = true
		rec.freeLocked(0)
		memory.Bodies.Release(rec.taken)
		rec.taken = 0
	}
}

// freeLocked forgets what has been read, and keeps the last so many pieces for what is
// to come.
func (rec *Recording) freeLocked(keep int) {
	rec.from = rec.total
	n := max(0, len(rec.pieces)-keep)
	for _, p := range rec.pieces[:n] {
		p.Free()
	}
	rec.pieces = rec.pieces[n:]
	for i := range rec.pieces {
		rec.pieces[i].n = 0
	}
	if len(rec.pieces) == 0 {
		rec.pieces = nil
	}
}

// lackLocked notes that there is no memory for the record.
func (rec *Recording) lackLocked() {
	if !rec.lacking {
		rec.lacking = true
		if rec.NotKept != nil {
			rec.NotKept.Add(1)
		}
	}
}

// Lacks tells whether there was no memory for the record.
func (rec *Recording) Lacks() bool {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	return rec.lacking
}

// Take counts memory that the call has for its body until it ends.
func (rec *Recording) Take(n int64) {
	rec.mu.Lock()
	if !rec.final {
		memory.Bodies.Take(n)
		rec.taken += n
	}
	rec.mu.Unlock()
}

// more is how many bytes source may still have, at most.
func (rec *Recording) more() int64 {
	if rec.expect < 0 {
		return math.MaxInt64
	}
	return rec.expect - rec.total
}

// keepingLocked is where the next read of source goes if it is to be kept; nil: it is
// not, or there is no memory for it.
func (rec *Recording) keepingLocked() []byte {
	if rec.dropped || rec.final || rec.Limit < 0 {
		return nil
	}
	if last := len(rec.pieces) - 1; last >= 0 {
		p := rec.pieces[last]
		if left := p.Data[p.n:]; len(left) >= len(p.Data)/16 {
			return left
		}
	}
	p := memory.Bodies.Next(rec.total, rec.more())
	if p == nil {
		rec.lackLocked()
		return nil
	}
	rec.pieces = append(rec.pieces, piece{Piece: p})
	return p.Data
}

// passingLocked is where the next read of source goes if it is not to be kept. What has
// been read is forgotten.
func (rec *Recording) passingLocked() []byte {
	rec.dropped = rec.dropped || rec.total > 0
	rec.freeLocked(1)
	if len(rec.pieces) == 0 || len(rec.pieces[0].Data) < memory.LargestPiece && rec.total >= memory.LargestPiece {
		rec.freeLocked(0)
		rec.pieces = append(rec.pieces, piece{Piece: memory.Bodies.Must(rec.total, rec.more())})
	}
	return rec.pieces[0].Data
}

// readsAhead is how much is read at most for one reader that waits, if it comes at once: a
// body that comes at once then costs one goroutine. Only what is kept is read ahead.
const readsAhead = 64 << 10

// readInto reads source for all who wait for it.
func (rec *Recording) readInto(room []byte, keep bool) {
	for read, more := 0, true; more; {
		n, err := rec.readSource(room)
		rec.mu.Lock()
		rec.total += int64(n)
		rec.pieces[len(rec.pieces)-1].n += n
		if n > 0 && (!keep || rec.total > rec.Limit) {
			rec.dropped = true // but what is held may still have to be read
		}
		if err != nil {
			rec.endedLocked(err)
		}
		read += n
		if more = keep && err == nil && n == len(room) && read < readsAhead && rec.total < rec.Limit && rec.more() > 0; more {
			room = rec.keepingLocked()
			room = room[:min(int64(len(room)), rec.Limit-rec.total)]
			more = len(room) > 0
		}
		rec.reading = more
		rec.releaseLocked()
		rec.read.Broadcast()
		rec.mu.Unlock()
	}
}

// readSource reads source once.
func (rec *Recording) readSource(room []byte) (n int, err error) {
	defer func() {
		if r := recover(); r != nil {
			n, err = 0, fmt.Errorf("%w: %v", errSourcePanicked, r)
		}
	}()
	return rec.source.Read(room)
}

// endedLocked notes the end of source.
func (rec *Recording) endedLocked(err error) {
	rec.err = err
	for field := range rec.trailer {
		if len(rec.Strip) > 0 && slices.ContainsFunc(rec.Strip, func(name string) bool { return same(field, name) }) {
			delete(rec.trailer, field)
		}
	}
}

// same tells whether some server may take two names of fields for one.
func same(a, b string) bool {
	return len(a) == len(b) && strings.EqualFold(strings.ReplaceAll(a, "_", "-"), strings.ReplaceAll(b, "_", "-"))
}

// StopReading gives the client until a time to send the rest of the body, so that it can
// be answered: net/http writes no answer to HTTP/1 before that, or before it has read 256 KiB
// in vain. What is unread then is lost, and the connection with it.
func (rec *Recording) StopReading(at time.Time) {
	rec.mu.Lock()
	over := rec.stopped || rec.inLocked()
	rec.stopped = true
	rec.mu.Unlock()
	if !over && rec.client != nil {
		_ = http.NewResponseController(rec.client).SetReadDeadline(at) // where it is supported
	}
}

// A Reader is one attempt's reader of a recording. Closing it, or cutting it
// off, leaves the client's body open.
type Reader struct {
	*Recording
	at     int64
	own    http.Header // trailers
	closed bool        // guarded by the recording's mutex
	ended  error       // what the reader gets that was cut off; nil: it was not; guarded by the recording's mutex
	idle   bool        // the client was waited for when it was cut off; guarded by the recording's mutex
	stage  stage       // of the answer; guarded by the recording's mutex
	spot   spotIn      // where at is; guarded by the recording's mutex

	*waits       // of the attempt, which may have several readers
	room   waits // for those of its first reader

	conn atomic.Pointer[connection] // to the endpoint; nil: not known

	reader bytes.Reader // of a body in memory, which is all that is used then
	offset atomic.Int64 // of what is read of it, where it is large
}

// LargeWhole is the size of a body in memory above which it is of interest how it is taken.
const LargeWhole = 64 << 10

// Counted is a body in memory that adds to at what is read of it.
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

// Offset is how far the body has been read.
func (r *Reader) Offset() int64 {
	if r.Recording.memory != nil {
		return r.offset.Load()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.at
}

// begin marks the time until end as spent waiting for the client.
func (w *waits) begin(now time.Time) { w.current.Store(int64(now.Sub(w.began)) + 1) }

func (w *waits) end(now time.Time) {
	if since := w.current.Swap(0); since != 0 {
		w.past.Add(max(0, int64(now.Sub(w.began))-(since-1)))
	}
}

// Waited is how long the attempt has waited, without the wait that is under way.
func (w *waits) Waited() time.Duration { return time.Duration(w.past.Load()) }

// WaitedBy is how long the attempt has waited until now.
func (w *waits) WaitedBy(now time.Time) time.Duration {
	waited := w.past.Load()
	if since := w.current.Load(); since != 0 {
		waited += max(0, int64(now.Sub(w.began))-(since-1))
	}
	return time.Duration(waited)
}

// Waiting tells whether the attempt waits now.
func (w *waits) Waiting() bool { return w.current.Load() != 0 }

// WaitsFor tells whether the attempt has waited for at least so long without a break.
func (w *waits) WaitsFor(now time.Time, atLeast time.Duration) bool {
	since := w.current.Load()
	return since != 0 && int64(now.Sub(w.began))-(since-1) >= int64(atLeast)
}

// spotIn is a place in the pieces of a recording.
type spotIn struct {
	piece int
	start int64 // offset of the piece in the body
}

// Whole is the body if it was read before the first attempt; nil: it was not. It must not be
// changed.
func (rec *Recording) Whole() []byte { return rec.memory }

// AnsweredBy says by which writer the client of the body is answered, so that StopReading can
// end its reading. It is to be called before anything is read.
func (rec *Recording) AnsweredBy(w http.ResponseWriter) { rec.client = w }

// Send makes the body part of the request of an attempt, and returns the attempt's reader
// of it. began is when the attempt began.
func (rec *Recording) Send(out *http.Request, began time.Time) *Reader {
	if rec.memory != nil {
		rec.mu.Lock()
		r := rec.unusedLocked()
		r.closed = true // there is nothing to cut off
		rec.mu.Unlock()
		r.reader.Reset(rec.memory)
		out.Body = io.NopCloser(&r.reader) // as net/http knows bodies in memory
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
			return nil, errNotKept // net/http asks where nothing was sent, or what was may be sent again
		}
		again := rec.NewReader(began)
		again.own = r.own // which are the request's, whoever reads its body
		again.waits = r.waits
		return again, nil
	}
	return r
}

// unusedLocked is a replay that no attempt has yet.
func (rec *Recording) unusedLocked() *Reader {
	r := &rec.first
	if r.Recording != nil {
		r = new(Reader)
	}
	r.Recording, r.waits = rec, &r.room
	return r
}

// NewReader makes a reader from the start of the recording for an attempt that began at a
// time.
func (rec *Recording) NewReader(began time.Time) *Reader {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	rec.open++
	r := rec.unusedLocked()
	r.began, r.own = began, maps.Clone(rec.announced)
	return r
}

// endLocked is how the body ends for this reader.
func (r *Reader) endLocked() error {
	if r.err == io.EOF && r.own != nil {
		clear(r.own)
		maps.Copy(r.own, r.trailer)
	}
	return r.err
}

// copyLocked reads what is held of the body.
func (r *Reader) copyLocked(p []byte) (n int) {
	rec := r.Recording
	if r.spot.piece >= len(rec.pieces) || r.spot.start < rec.from {
		r.spot = spotIn{start: rec.from}
	}
	for n < len(p) && r.spot.piece < len(rec.pieces) {
		from := rec.pieces[r.spot.piece]
		k := copy(p[n:], from.Data[r.at-r.spot.start:from.n])
		n += k
		r.at += int64(k)
		if r.at < r.spot.start+int64(from.n) || r.spot.piece == len(rec.pieces)-1 {
			break // more may come into the last piece
		}
		r.spot = spotIn{r.spot.piece + 1, r.at}
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
	waits := false
	defer func() {
		if waits {
			r.waits.end(time.Now())
		}
	}()
	for {
		switch {
		case r.closed:
			return 0, ErrReplaced
		case r.ended != nil:
			return 0, r.ended
		case r.at < rec.from:
			return 0, ErrReplaced // dropped
		case r.at < rec.total:
			n := r.copyLocked(p)
			if rec.err == io.EOF && r.at == rec.total {
				return n, r.endLocked()
			}
			return n, nil
		case rec.err != nil && (rec.err == io.EOF || r.stage != answering):
			return 0, r.endLocked()
		case rec.err != nil:
			rec.read.Wait() // until the answer is over
			continue
		}
		if !waits {
			waits = true
			r.waits.begin(time.Now())
		}
		if !rec.reading {
			rec.reading = true
			room := rec.keepingLocked()
			keep := room != nil
			if !keep {
				room = rec.passingLocked()
			}
			go rec.readInto(room, keep)
		}
		rec.read.Wait()
	}
}

// A stage is how far the answer to a request has come.
type stage uint8

const (
	unanswered stage = iota
	answering
	answered
)

// Answering says that the attempt's answer goes to the client. From then on a body that
// breaks breaks no answer: the transport, which would give up the connection, learns of it when
// the answer is over. Where the body is still to come, net/http is kept from taking 256 KiB of
// it when it begins to answer HTTP/1: the endpoint would get a body with a hole.
func (r *Reader) Answering() {
	rec := r.Recording
	if rec.memory != nil {
		return
	}
	rec.mu.Lock()
	r.stage = answering
	early := !rec.inLocked()
	rec.mu.Unlock()
	if early && rec.client != nil {
		_ = http.NewResponseController(rec.client).EnableFullDuplex() // where it is supported
	}
}

// Answered says that the answer is over. A client that is waited for then has until a time
// to send on.
func (r *Reader) Answered(patience time.Duration) {
	rec := r.Recording
	if rec.memory != nil {
		return
	}
	rec.mu.Lock()
	r.stage = answered
	waits := rec.reading && !rec.inLocked()
	rec.read.Broadcast()
	rec.mu.Unlock()
	if waits {
		rec.StopReading(time.Now().Add(patience))
	}
}

// inLocked tells whether nothing of the body is to come.
func (rec *Recording) inLocked() bool {
	return rec.err != nil || rec.expect >= 0 && rec.total >= rec.expect
}

// Begun tells, once the round trip has failed, whether any of the body has been
// handed out.
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

// CutIdle tells whether the client was waited for when the reader was cut off.
func (r *Reader) CutIdle() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.idle
}

// Cut ends the reader of an attempt whose round trip has to end, with an error for the
// transport: net/http does not return before its reader of the body does.
func (r *Reader) Cut(err error) {
	rec := r.Recording
	rec.mu.Lock()
	if rec.memory == nil && r.ended == nil {
		r.ended, r.idle = err, r.Waiting()
		rec.read.Broadcast()
	}
	rec.mu.Unlock()
}
