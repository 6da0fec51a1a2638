package memory

import "sync"

// A Piece is a buffer of 4, 8, 16 or 32 KiB. Bodies are kept in pieces, which come from
// a pool of each size: what is pooled for a small body is small. Its bytes are taken
// from a budget until it is freed.
type Piece struct {
	Data   []byte
	budget *Budget
	class  int
}

const (
	// SmallestPiece and LargestPiece are sizes of pieces in bytes.
	SmallestPiece = 4 << 10
	// LargestPiece is the size of the largest piece, in bytes.
	LargestPiece = SmallestPiece << (classes - 1)
	classes      = 4
)

var pools [classes]sync.Pool

// Next returns the piece for a body of which so many bytes have come, and at most so
// many more are to come: 4 KiB, or about as much as has come, at most 32 KiB. Nil if the
// budget has no room for it.
func (b *Budget) Next(come, more int64) *Piece {
	class := classFor(come, more)
	if !b.Reserve(SmallestPiece << class) {
		return nil
	}
	return b.piece(class)
}

// Must is Next whether the budget has room or not.
func (b *Budget) Must(come, more int64) *Piece {
	class := classFor(come, more)
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

func classFor(come, more int64) (class int) {
	for class < classes-1 && SmallestPiece<<class < come && SmallestPiece<<class < more {
		class++
	}
	return class
}

// Free gives the piece back, once; nobody may look at it afterwards.
func (p *Piece) Free() {
	p.budget.Release(int64(len(p.Data)))
	p.budget = nil
	pools[p.class].Put(p)
}
