package memory

import (
	"math"
	"sync"
	"testing"
)

func TestBudget(t *testing.T) {
	var b Budget
	if b.Reserve(1) || b.Used() != 0 {
		t.Error("the zero value lets bytes in")
	}
	b.SetLimit(100)
	for _, step := range []struct {
		n    int64
		ok   bool
		used int64
	}{{60, true, 60}, {41, false, 60}, {40, true, 100}, {1, false, 100}} {
		if ok := b.Reserve(step.n); ok != step.ok || b.Used() != step.used {
			t.Errorf("reserving %d: %v, %d are used, want %v, %d", step.n, ok, b.Used(), step.ok, step.used)
		}
	}
	b.Take(10)
	b.Release(20)
	if b.Used() != 90 || !b.Reserve(10) {
		t.Errorf("%d are used", b.Used())
	}
	b.SetLimit(50)
	if b.Reserve(1) || b.Used() != 100 {
		t.Error("a lower limit lets more in")
	}
}

// TestPiecesGrowWithTheBody checks that pieces grow with the body, but not beyond what the rest of
// it needs.
func TestPiecesGrowWithTheBody(t *testing.T) {
	var b Budget
	b.SetLimit(1 << 20)
	for _, test := range []struct {
		arrived, more int64
		want          int
	}{
		{0, math.MaxInt64, 4 << 10},
		{4 << 10, math.MaxInt64, 4 << 10},
		{4<<10 + 1, math.MaxInt64, 8 << 10},
		{16<<10 + 1, math.MaxInt64, 32 << 10},
		{1 << 30, math.MaxInt64, LargestPiece},
		{1 << 30, 1, 4 << 10},
		{1 << 30, 9000, 16 << 10},
	} {
		p := b.Next(test.arrived, test.more)
		if len(p.Data) != test.want || b.Used() != int64(test.want) {
			t.Errorf("after %d with %d to come: %d bytes, %d are used", test.arrived, test.more, len(p.Data), b.Used())
		}
		p.Free()
	}
	b.SetLimit(5 << 10)
	if b.Next(1<<20, 1<<20) != nil || b.Used() != 0 {
		t.Error("got a piece beyond the limit")
	}
	p := b.Must(1<<20, 1<<20)
	if b.Used() != LargestPiece {
		t.Errorf("%d are used", b.Used())
	}
	p.Free()
}

func TestBudgetIsShared(t *testing.T) {
	var b Budget
	b.SetLimit(64 << 10)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range int64(1000) {
				if p := b.Next(i*100, math.MaxInt64); p != nil {
					p.Free()
				}
			}
		})
	}
	wg.Wait()
	if b.Used() != 0 {
		t.Errorf("%d are used", b.Used())
	}
}
