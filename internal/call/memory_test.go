package call

import (
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/apifailover/caddy-failover/internal/memory"
	"github.com/apifailover/caddy-failover/internal/replay"
)

// paysFor tells whether kept memory is in proportion to what has come.
func paysFor(t *testing.T, what string, taken, come int64) {
	t.Helper()
	if most := come + come/5 + memory.LargestPiece; taken > most {
		t.Errorf("%s: %d bytes take %d, want at most %d", what, come, taken, most)
	}
}

// silentAfter is a body of which so many bytes come, and then nothing.
type silentAfter struct {
	left  int64
	quiet chan struct{} // closed: it ends
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

// TestBodiesTakeMemoryForWhatHasCome, whatever was declared: recordings and answers that
// are held back.
func TestBodiesTakeMemoryForWhatHasCome(t *testing.T) {
	for _, come := range []int64{1, 4096, 4097, 10_000, 100_000, 1_000_000} {
		before := memory.Bodies.Used()
		quiet := make(chan struct{})
		rec := recordOf(t, &silentAfter{come, quiet}, 1<<30, 1<<30)
		one := rec.NewReader(time.Now())
		if _, err := io.ReadFull(one, make([]byte, come)); err != nil {
			t.Fatal(err)
		}
		paysFor(t, "a recording", memory.Bodies.Used()-before, come)
		if come == 1 && memory.Bodies.Used()-before > memory.SmallestPiece {
			t.Errorf("a byte takes %d", memory.Bodies.Used()-before)
		}
		one.Close()
		rec.Finish()
		close(quiet) // a read that is under way has its piece until it is over
		eventually(t, 30*time.Second, "the memory of a recording is free", func() bool { return memory.Bodies.Used() <= before })

		a := loose(t)
		h := new(held)
		body := &silentAfter{come, nil}
		for h.total < come {
			if err := h.read(a, body, 1<<30); err != nil {
				t.Fatal(err)
			}
		}
		paysFor(t, "a held answer", memory.Bodies.Used()-before, come)
		h.drop()
		if got := memory.Bodies.Used(); got != before {
			t.Errorf("%d bytes stay taken of a held answer of %d", got-before, come)
		}
	}
}

// recordOf makes a recording of a body.
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

// eventually waits until a condition holds, which it must within a time.
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
