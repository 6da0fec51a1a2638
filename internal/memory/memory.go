// Package memory counts the bytes of bodies that a process keeps, and bounds them.
package memory

import "sync/atomic"

// A Budget is a number of bytes that many share. It may be used by several
// goroutines at once. The zero value has no room.
type Budget struct {
	_     [128]byte // used is written often, but by those only who keep bodies
	used  atomic.Int64
	_     [128]byte
	limit atomic.Int64
}

// Reserve takes n bytes; false if there is no room for them.
func (b *Budget) Reserve(n int64) bool {
	if b.used.Add(n) <= b.limit.Load() {
		return true
	}
	b.used.Add(-n)
	return false
}

// Take takes n bytes whether there is room for them or not.
func (b *Budget) Take(n int64) { b.used.Add(n) }

// Release gives n bytes back.
func (b *Budget) Release(n int64) { b.used.Add(-n) }

// Used is how many bytes are taken.
func (b *Budget) Used() int64 { return b.used.Load() }

// Limit is how many bytes can be reserved.
func (b *Budget) Limit() int64 { return b.limit.Load() }

// SetLimit sets how many bytes can be reserved. What has been taken stays.
func (b *Budget) SetLimit(n int64) { b.limit.Store(n) }
