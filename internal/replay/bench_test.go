package replay

import (
	"fmt"
	"io"
	"testing"
	"time"
)

// BenchmarkUpload measures reading a body through a recording.
func BenchmarkUpload(b *testing.B) {
	for _, size := range []int64{8 << 10, 64 << 10, 1 << 20} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			b.SetBytes(size)
			for b.Loop() {
				rec := recordOf(b, io.LimitReader(endless{}, size), size, 1<<20)
				r := rec.NewReader(time.Now())
				_, _ = io.Copy(io.Discard, struct{ io.Reader }{r})
				r.Close()
				rec.Finish()
			}
		})
	}
}

// endless is a reader that never ends.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }
