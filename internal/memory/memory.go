// Package memory counts and limits the bytes of buffered bodies.
package memory

import "sync/atomic"

// A Budget limits the bytes that all buffers together take. It is safe for concurrent use. The
// zero value has a limit of 0.
type Budget struct {
	_     [128]byte // keep used, which buffered bodies write often, on its own cache line
	used  atomic.Int64
	_     [128]byte
	limit atomic.Int64
}

// Reserve takes n bytes. It takes none and returns false if that would exceed the limit.
func (b *Budget) Reserve(n int64) bool {
	if b.used.Add(n) <= b.limit.Load() {
		return true
	}
	b.used.Add(-n)
	return false
}

// Take takes n bytes even if that exceeds the limit.
func (b *Budget) Take(n int64) { b.used.Add(n) }

// Release gives n bytes back.
func (b *Budget) Release(n int64) { b.used.Add(-n) }

// Used returns the number of bytes taken.
func (b *Budget) Used() int64 { return b.used.Load() }

// Limit returns the limit in bytes.
func (b *Budget) Limit() int64 { return b.limit.Load() }

// SetLimit sets the limit in bytes. Bytes already taken stay taken.
func (b *Budget) SetLimit(n int64) { b.limit.Store(n) }
