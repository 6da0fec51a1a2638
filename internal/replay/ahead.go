package replay

import (
	"errors"
	"io"
	"time"

	"github.com/apifailover/caddy-failover/internal/memory"
)

// ErrClientSlow is the error of reading a body whose client did not send it in time.
var ErrClientSlow = errors.New("the client did not send the request's body before the deadline")

// ReadSmall reads a body of a declared length before the first attempt. It waits at most
// patience for the client; 0: no bound. If memory.Bodies has no room it reads nothing, and the
// attempt reads the body.
func (rec *Recording) ReadSmall(patience time.Duration) error {
	if !memory.Bodies.Reserve(rec.expect) {
		rec.mu.Lock()
		rec.lackLocked()
		rec.Limit = -1
		rec.mu.Unlock()
		return nil
	}
	rec.mu.Lock()
	rec.taken = rec.expect
	rec.mu.Unlock()
	if patience > 0 {
		return rec.readPatiently(patience)
	}
	body := make([]byte, rec.expect)
	if _, err := io.ReadFull(rec.source, body); err != nil {
		rec.mu.Lock()
		if rec.err = err; err == io.EOF {
			rec.err = io.ErrUnexpectedEOF
		}
		rec.mu.Unlock()
		return err
	}
	rec.mu.Lock()
	rec.memory, rec.total, rec.err = body, rec.expect, io.EOF
	rec.mu.Unlock()
	return nil
}

// readPatiently reads a body of a declared length, for at most patience.
func (rec *Recording) readPatiently(patience time.Duration) error {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	if err := rec.readUpToLocked(rec.expect, patience); err != nil {
		return err
	}
	switch {
	case rec.total >= rec.expect:
		rec.joinLocked()
		rec.err = io.EOF
		return nil
	case rec.err == io.EOF:
		return io.ErrUnexpectedEOF
	}
	return rec.err
}

// ReadAhead reads the body before the first attempt and returns it. It waits at most patience
// for the client; 0: no bound. whole is false if the body exceeds the limit or memory.Bodies has
// no room.
func (rec *Recording) ReadAhead(patience time.Duration) (body []byte, whole bool, err error) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	if err := rec.readUpToLocked(rec.Limit+1, patience); err != nil {
		return nil, false, err
	}
	switch {
	case rec.err != nil && rec.err != io.EOF:
		return nil, false, rec.err
	case rec.err == nil || rec.total > rec.Limit:
		return nil, false, nil
	}
	memory.Bodies.Take(rec.total)
	rec.taken += rec.total
	rec.joinLocked()
	return rec.memory, true, nil
}

// readUpToLocked reads source until enough bytes have arrived, it ends, or memory.Bodies has no
// room. With patience 0 it reads on this goroutine; otherwise it stops after patience.
func (rec *Recording) readUpToLocked(enough int64, patience time.Duration) error {
	if patience > 0 {
		timer := time.AfterFunc(patience, func() {
			rec.mu.Lock()
			rec.late = true
			rec.read.Broadcast()
			rec.mu.Unlock()
		})
		defer timer.Stop()
	}
	for rec.err == nil && rec.total < enough {
		if rec.late {
			return ErrClientSlow
		}
		if rec.reading {
			rec.read.Wait()
			continue
		}
		room := rec.roomToKeepLocked()
		if room == nil {
			return nil
		}
		rec.reading = true
		if patience > 0 {
			go rec.readInto(room, true)
			continue
		}
		rec.mu.Unlock()
		rec.readInto(room, true)
		rec.mu.Lock()
	}
	return nil
}

// Fill starts a goroutine that reads the body until stop is called or the limit is reached:
// net/http notices that an HTTP/1 client has left only after it has read the body. Fill calls
// broken, under the recording's mutex, if reading fails before stop.
func (rec *Recording) Fill(broken func()) (stop func()) {
	stopped := false // guarded by mu
	go func() {
		rec.mu.Lock()
		defer rec.mu.Unlock()
		for !stopped && rec.err == nil && rec.total < rec.Limit {
			if rec.reading {
				rec.read.Wait()
				continue
			}
			room := rec.roomToKeepLocked()
			if room == nil {
				return
			}
			room = room[:min(int64(len(room)), rec.Limit-rec.total)]
			rec.reading = true
			rec.mu.Unlock()
			rec.readInto(room, true)
			rec.mu.Lock()
		}
		if !stopped && rec.err != nil && rec.err != io.EOF {
			broken()
		}
	}()
	return func() {
		rec.mu.Lock()
		stopped = true
		rec.read.Broadcast()
		rec.mu.Unlock()
	}
}

// joinLocked joins the pieces to rec.memory and frees them. The caller has taken rec.total
// bytes from memory.Bodies.
func (rec *Recording) joinLocked() {
	rec.memory = make([]byte, 0, rec.total)
	for _, p := range rec.pieces {
		rec.memory = append(rec.memory, p.Data[:p.n]...)
	}
	rec.freeLocked(0)
}
