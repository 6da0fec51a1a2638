package call

import (
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/apifailover/caddy-failover/internal/memory"
	"github.com/apifailover/caddy-failover/internal/replay"
)

// wantInProportion checks that the memory taken is at most a fifth and a piece more than the bytes received.
func wantInProportion(t *testing.T, what string, taken, received int64) {
	t.Helper()
	if most := received + received/5 + memory.LargestPiece; taken > most {
		t.Errorf("%s: %d bytes take %d, want at most %d", what, received, taken, most)
	}
}

// silentAfter is a body that stops after some bytes and ends when quiet is closed.
type silentAfter struct {
	left  int64 // bytes before the silence
	quiet chan struct{}
}

func (s *silentAfter) Read(p []byte) (int, error) {
	if s.left == 0 {
		<-s.quiet
		return 0, io.EOF
	}
	n := min(int64(len(p)), s.left)
	s.left -= n
	return int(n), nil
}

// TestBodiesTakeMemoryForReceivedBytes checks that the memory of recordings and of held answers depends on the
// bytes received, not on the declared length.
func TestBodiesTakeMemoryForReceivedBytes(t *testing.T) {
	for _, size := range []int64{1, 4096, 4097, 10_000, 100_000, 1_000_000} {
		before := memory.Bodies.Used()
		quiet := make(chan struct{})
		rec := recordOf(t, &silentAfter{size, quiet}, 1<<30, 1<<30)
		one := rec.NewReader(time.Now())
		if _, err := io.ReadFull(one, make([]byte, size)); err != nil {
			t.Fatal(err)
		}
		wantInProportion(t, "a recording", memory.Bodies.Used()-before, size)
		if size == 1 && memory.Bodies.Used()-before > memory.SmallestPiece {
			t.Errorf("one byte takes %d", memory.Bodies.Used()-before)
		}
		one.Close()
		rec.Finish()
		close(quiet) // a read under way keeps its piece until it returns
		eventually(t, 30*time.Second, "the memory of a recording is free", func() bool { return memory.Bodies.Used() <= before })

		a := loose(t)
		h := new(held)
		body := &silentAfter{size, nil}
		for h.total < size {
			if err := h.read(a, body, 1<<30); err != nil {
				t.Fatal(err)
			}
		}
		wantInProportion(t, "a held answer", memory.Bodies.Used()-before, size)
		h.drop()
		if got := memory.Bodies.Used(); got != before {
			t.Errorf("a held answer of %d bytes leaves %d taken", size, got-before)
		}
	}
}

// recordOf returns a recording of a body with this declared length and this limit of the buffer.
func recordOf(t testing.TB, body io.Reader, length, limit int64) *replay.Recording {
	if memory.Bodies.Limit() == 0 {
		memory.Bodies.SetLimit(256 << 20)
	}
	r, err := http.NewRequest("PUT", "http://api.test/", body)
	if err != nil {
		t.Fatal(err)
	}
	r.ContentLength = length
	return replay.NewRecording(r, replay.Options{Limit: limit})
}

// eventually waits until a condition holds, and returns how long that took. It fails the test if that takes longer
// than within.
func eventually(t testing.TB, within time.Duration, what string, holds func() bool) time.Duration {
	t.Helper()
	began := time.Now()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for !holds() {
		if time.Since(began) > within {
			t.Fatalf("not within %v: %s", within, what)
		}
		<-ticker.C
	}
	return time.Since(began)
}
