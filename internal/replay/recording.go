// Package replay keeps a request's body so that it can be sent again.
package replay

import (
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

// ErrReplaced is the read error of an attempt after it was abandoned.
var ErrReplaced = errors.New("request body belongs to another attempt now")

// errNotKept tells net/http that it cannot send the body again.
var errNotKept = errors.New("sending the request again: its body was not kept")

// errConnectionLost is the read error of an attempt whose endpoint closed the connection
// while the attempt waited for the client.
var errConnectionLost = errors.New("the endpoint closed the connection before the request was sent")

// errSourcePanicked is the error of a client's body whose Read panicked.
var errSourcePanicked = errors.New("reading the request body panicked")

// A Recording keeps a client's request body while an attempt sends it. Another attempt can then send
// the kept bytes again, followed by the unread rest. Recording delays no attempt. When the body
// exceeds its limit, or memory.Bodies has no room, the recording drops the kept bytes, and the body
// cannot be sent again. Even with a negative limit it keeps the first part until the second is read,
// because the connection may already be closed and take nothing.
//
// A separate goroutine reads the source. So an attempt can be abandoned while the client is silent,
// and the next attempt gets the bytes of that read.
//
// A small body of a declared length is read before the first attempt instead.
type Recording struct {
	source io.Reader
	Options
	expect int64  // the declared length, or -1
	memory []byte // the whole body, if it was read before the first attempt; the transport may keep it
	// trailer is the client's trailers, complete at the end of source. Each attempt gets a copy
	// when it reads to the end of the body.
	trailer   http.Header
	announced http.Header         // trailer at the start: names without values
	client    http.ResponseWriter // for ending reads of source by a deadline; nil: they cannot be ended
	Before    time.Duration       // time spent reading before the first attempt

	mu      sync.Mutex
	read    sync.Cond // signals that a read of source ended or a reader was cut off
	pieces  []piece   // the body from offset from on
	from    int64     // 0 unless dropped
	total   int64     // bytes read from source
	taken   int64     // bytes taken from memory.Bodies apart from pieces
	err     error     // the error that source ended with; io.EOF at a good end
	reading bool      // a goroutine reads source
	dropped bool      // pieces lack a part that was read, or will lack it after the next read
	lacking bool      // memory.Bodies had no room
	final   bool      // no other attempt will follow
	stopped bool      // StopReading was called
	handed  bool      // HandBack was called
	late    bool      // patience ran out while the body was read before the first attempt
	open    int       // readers that may still read
	lent    int       // writes of pieces that are under way: see Reader.WriteUpTo
	first   Reader    // storage for the first reader
}

// Options say how a body is recorded.
type Options struct {
	Limit   int64          // how many bytes to keep at most; negative: keep nothing
	Small   bool           // read the body before the first attempt
	Strip   []string       // trailers that no attempt gets; case does not matter, and _ equals -
	NotKept *atomic.Uint64 // counts bodies for which memory.Bodies had no room; nil: no count
	Origin  *http.Request  // the request that the proxy got, whose body HandBack restores; nil: HandBack does nothing
}

// NewRecording returns a recording of the body of r, which must have one. It keeps nothing
// of a body whose declared length exceeds the limit.
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

// Fits reports whether the declared length is within the limit. The whole body is then kept if
// memory.Bodies has room.
func (rec *Recording) Fits() bool { return rec.expect >= 0 && rec.expect <= rec.Limit }

// Replayable reports whether another attempt could send the body from its start.
func (rec *Recording) Replayable() bool {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	return !rec.dropped && (rec.err == nil || rec.err == io.EOF)
}

// TakeBack notes that no endpoint got any of the body, and reports whether another attempt could
// send it from its start.
func (rec *Recording) TakeBack() bool {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	if rec.from == 0 && !rec.final {
		rec.dropped = false
	}
	return !rec.dropped && (rec.err == nil || rec.err == io.EOF)
}

// Complete reports whether the whole body has been read and can be sent again.
func (rec *Recording) Complete() bool {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	return !rec.dropped && (rec.err == io.EOF || rec.err == nil && rec.expect >= 0 && rec.total == rec.expect)
}

// Broken reports whether reading the client's body failed.
func (rec *Recording) Broken() bool {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	return rec.err != nil && rec.err != io.EOF
}

// Error returns the error that reading the client's body failed with; nil: none so far.
func (rec *Recording) Error() error {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	if rec.err == io.EOF {
		return nil
	}
	return rec.err
}

// Finish notes that no further attempt will need the body.
func (rec *Recording) Finish() {
	rec.mu.Lock()
	rec.final = true
	rec.releaseLocked()
	rec.mu.Unlock()
}

// releaseLocked frees the kept bytes if nobody needs them any more.
func (rec *Recording) releaseLocked() {
	if rec.final && rec.open == 0 && !rec.reading {
		rec.dropped = true
		rec.freeLocked(0)
		memory.Bodies.Release(rec.taken)
		rec.taken = 0
	}
}

// freeLocked forgets the bytes read so far. It keeps the last keep pieces for reuse and frees
// the others. No piece is used again if a write of one is under way.
func (rec *Recording) freeLocked(keep int) {
	rec.from = rec.total
	free := (*memory.Piece).Free
	if rec.lent > 0 {
		keep, free = 0, (*memory.Piece).Abandon
	}
	n := max(0, len(rec.pieces)-keep)
	for _, p := range rec.pieces[:n] {
		free(p.Piece)
	}
	rec.pieces = rec.pieces[n:]
	for i := range rec.pieces {
		rec.pieces[i].n = 0
	}
	if len(rec.pieces) == 0 {
		rec.pieces = nil
	}
}

// lackLocked notes, and counts once, that memory.Bodies had no room.
func (rec *Recording) lackLocked() {
	if !rec.lacking {
		rec.lacking = true
		if rec.NotKept != nil {
			rec.NotKept.Add(1)
		}
	}
}

// Lacks reports whether memory.Bodies had no room for the body.
func (rec *Recording) Lacks() bool {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	return rec.lacking
}

// Take takes n more bytes from memory.Bodies. The recording releases them with the body.
func (rec *Recording) Take(n int64) {
	rec.mu.Lock()
	if !rec.final {
		memory.Bodies.Take(n)
		rec.taken += n
	}
	rec.mu.Unlock()
}

// moreLocked returns how many more bytes source may have.
func (rec *Recording) moreLocked() int64 {
	if rec.expect < 0 {
		return math.MaxInt64
	}
	return rec.expect - rec.total
}

// roomToKeepLocked returns the buffer for the next read of source, if its bytes are to be
// kept; nil if they are not, or memory.Bodies has no room.
func (rec *Recording) roomToKeepLocked() []byte {
	if rec.dropped || rec.final || rec.Limit < 0 {
		return nil
	}
	if last := len(rec.pieces) - 1; last >= 0 {
		p := rec.pieces[last]
		if left := p.Data[p.n:]; len(left) >= len(p.Data)/16 {
			return left
		}
	}
	p := memory.Bodies.Next(rec.total, rec.moreLocked())
	if p == nil {
		rec.lackLocked()
		return nil
	}
	rec.pieces = append(rec.pieces, piece{Piece: p})
	return p.Data
}

// roomToPassLocked returns the buffer for the next read of source, if its bytes are not to
// be kept. It forgets the bytes read so far.
func (rec *Recording) roomToPassLocked() []byte {
	rec.dropped = rec.dropped || rec.total > 0
	rec.freeLocked(1)
	if len(rec.pieces) == 0 || len(rec.pieces[0].Data) < memory.LargestPiece && rec.total >= memory.LargestPiece {
		rec.freeLocked(0)
		rec.pieces = append(rec.pieces, piece{Piece: memory.Bodies.Must(rec.total, rec.moreLocked())})
	}
	return rec.pieces[0].Data
}

// readsAhead is how many bytes one goroutine reads at most, as long as reads fill their buffers: a
// body that arrives at once then needs one goroutine. Bytes that are not kept are not read ahead.
const readsAhead = 256 << 10

// readInto reads source into room, for all waiting readers. The caller has set rec.reading.
func (rec *Recording) readInto(room []byte, keep bool) {
	for read, more := 0, true; more; {
		n, err := rec.readSource(room)
		rec.mu.Lock()
		rec.total += int64(n)
		rec.pieces[len(rec.pieces)-1].n += n
		if n > 0 && (!keep || rec.total > rec.Limit) {
			rec.dropped = true // the pieces stay for readers that still need them
		}
		if err != nil {
			rec.endedLocked(err)
		}
		read += n
		if more = keep && err == nil && n == len(room) && read < readsAhead && rec.total < rec.Limit && rec.moreLocked() > 0; more {
			room = rec.roomToKeepLocked()
			room = room[:min(int64(len(room)), rec.Limit-rec.total)]
			more = len(room) > 0
		}
		rec.reading = more
		rec.releaseLocked()
		rec.read.Broadcast()
		rec.mu.Unlock()
	}
}

// readSource reads source once. It turns a panic into an error.
func (rec *Recording) readSource(room []byte) (n int, err error) {
	defer func() {
		if r := recover(); r != nil {
			n, err = 0, fmt.Errorf("%w: %v", errSourcePanicked, r)
		}
	}()
	return rec.source.Read(room)
}

// endedLocked notes the error that source ended with, and strips the trailers.
func (rec *Recording) endedLocked(err error) {
	rec.err = err
	for field := range rec.trailer {
		if len(rec.Strip) > 0 && slices.ContainsFunc(rec.Strip, func(name string) bool { return same(field, name) }) {
			delete(rec.trailer, field)
		}
	}
}

// same reports whether some server may treat two field names as equal.
func same(a, b string) bool {
	return len(a) == len(b) && strings.EqualFold(strings.ReplaceAll(a, "_", "-"), strings.ReplaceAll(b, "_", "-"))
}

// inLocked reports whether source has ended or all its declared bytes were read.
func (rec *Recording) inLocked() bool {
	return rec.err != nil || rec.expect >= 0 && rec.total >= rec.expect
}

// StopReading gives the client until at to send the rest of the body; then reads fail, and the
// connection is lost. Without a deadline net/http writes no HTTP/1 response before it has read the
// rest, or 256 KiB of it.
func (rec *Recording) StopReading(at time.Time) {
	rec.mu.Lock()
	over := rec.stopped || rec.inLocked()
	rec.stopped = true
	rec.mu.Unlock()
	if !over && rec.client != nil {
		_ = http.NewResponseController(rec.client).SetReadDeadline(at) // where it is supported
	}
}

// Whole returns the body if it was read before the first attempt, else nil. The caller must
// not change it.
func (rec *Recording) Whole() []byte { return rec.memory }

// AnsweredBy sets the client's writer, through which StopReading ends reads of the body. Call
// it before anything is read.
func (rec *Recording) AnsweredBy(w http.ResponseWriter) { rec.client = w }
