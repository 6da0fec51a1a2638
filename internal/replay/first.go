// Package replay keeps a request's body so that it can be sent again.
package replay

import (
	"errors"
	"io"
	"time"

	"github.com/apifailover/caddy-failover/internal/memory"
)

// ErrClientSlow says that the deadline passed while the client was waited for.
var ErrClientSlow = errors.New("the client did not send the request's body before the deadline")

// ReadSmall reads a small body, in as long as patience says; 0: as long as it takes.
// Where there is no memory for it, it is left to the attempt.
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

// readPatiently reads a body of a declared length for as long as patience says.
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

// ReadAhead reads source to its end, or further than the limit, before any
// attempt does. What it returns is the whole body; false if it is longer than the limit, or
// there was no memory for it.
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

// readUpToLocked reads source until so much is in, it ends, or there is no memory for
// more. With a patience it reads no longer than that, else on this goroutine.
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
		room := rec.keepingLocked()
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

// Fill reads the body on a goroutine of its own, as far as it is kept, until stop is called:
// net/http learns that a client of HTTP/1 has left only once its body has been read. It calls
// broken if the body ends with an error.
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
			room := rec.keepingLocked()
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

// joinLocked makes the pieces one. Their memory is freed, and what has been taken for
// the whole stays taken until the record is not needed any longer.
func (rec *Recording) joinLocked() {
	rec.memory = make([]byte, 0, rec.total)
	for _, p := range rec.pieces {
		rec.memory = append(rec.memory, p.Data[:p.n]...)
	}
	rec.freeLocked(0)
}
