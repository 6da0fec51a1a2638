package memory

import "sync"

// A Piece is a buffer of 4, 8, 16, 32, 64 or 128 KiB for part of a body. There is a pool for each
// size, so small bodies reuse small buffers. Its bytes count against a budget until Free.
type Piece struct {
	Data   []byte
	budget *Budget
	class  int
}

const (
	// SmallestPiece is the size of the smallest piece, in bytes.
	SmallestPiece = 4 << 10
	// LargestPiece is the size of the largest piece, in bytes.
	LargestPiece = SmallestPiece << (classes - 1)
	classes      = 6
)

var pools [classes]sync.Pool

// Next returns a piece for the next part of a body. arrived bytes have arrived, and at most more
// bytes will follow. The piece is about as large as the smaller of the two, SmallestPiece to
// LargestPiece. Next returns nil if that would exceed the budget's limit.
func (b *Budget) Next(arrived, more int64) *Piece {
	class := classFor(arrived, more)
	if !b.Reserve(SmallestPiece << class) {
		return nil
	}
	return b.piece(class)
}

// Must is Next without the limit. It never returns nil.
func (b *Budget) Must(arrived, more int64) *Piece {
	class := classFor(arrived, more)
	b.Take(SmallestPiece << class)
	return b.piece(class)
}

func (b *Budget) piece(class int) *Piece {
	if p, ok := pools[class].Get().(*Piece); ok {
		p.budget = b
		return p
	}
	return &Piece{Data: make([]byte, SmallestPiece<<class), budget: b, class: class}
}

func classFor(arrived, more int64) (class int) {
	for class < classes-1 && SmallestPiece<<class < arrived && SmallestPiece<<class < more {
		class++
	}
	return class
}

// Free gives the piece back for reuse. Call it once, and do not use the piece afterwards.
func (p *Piece) Free() {
	p.budget.Release(int64(len(p.Data)))
	p.budget = nil
	pools[p.class].Put(p)
}

// Abandon is Free for a piece that another goroutine may still read: it is not reused.
func (p *Piece) Abandon() { p.budget.Release(int64(len(p.Data))) }
