package failover

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	mem "github.com/apifailover/caddy-failover/internal/memory"
)

// paysFor tells whether kept memory is in proportion to what has come.
func paysFor(t *testing.T, what string, taken, come int64) {
	t.Helper()
	if most := come + come/5 + mem.LargestPiece; taken > most {
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
		before := bodies.Used()
		quiet := make(chan struct{})
		rec := recordOf(t, &silentAfter{come, quiet}, 1<<30, 1<<30)
		one := rec.replay(time.Now())
		if _, err := io.ReadFull(one, make([]byte, come)); err != nil {
			t.Fatal(err)
		}
		paysFor(t, "a recording", bodies.Used()-before, come)
		if come == 1 && bodies.Used()-before > mem.SmallestPiece {
			t.Errorf("a byte takes %d", bodies.Used()-before)
		}
		one.Close()
		rec.finish()
		close(quiet) // a read that is under way has its piece until it is over
		eventually(t, 30*time.Second, "the memory of a recording is free", func() bool { return bodies.Used() <= before })

		a := loose(t)
		h := new(held)
		body := &silentAfter{come, nil}
		for h.total < come {
			if err := h.read(a, body, 1<<30); err != nil {
				t.Fatal(err)
			}
		}
		paysFor(t, "a held answer", bodies.Used()-before, come)
		h.drop()
		if got := bodies.Used(); got != before {
			t.Errorf("%d bytes stay taken of a held answer of %d", got-before, come)
		}
	}
}

// TestTheMemoryIsBoundedByTheNewestApp: one that stops after a newer has started, as in a reload, changes
// nothing, and without one the default holds again.
func TestTheMemoryIsBoundedByTheNewestApp(t *testing.T) {
	first, second, third := &App{Memory: 2 << 20}, &App{Memory: 3 << 20}, new(App)
	for i, step := range []struct {
		do   func() error
		want int64
	}{
		{first.Start, 2 << 20},
		{second.Start, 3 << 20},
		{first.Stop, 3 << 20},
		{second.Stop, memoryByDefault()},
		{first.Start, 2 << 20},
		{third.Start, memoryByDefault()},
		{first.Stop, memoryByDefault()},
		{third.Stop, memoryByDefault()},
	} {
		if err := step.do(); err != nil {
			t.Fatal(err)
		}
		if got := bodies.Limit(); got != step.want {
			t.Errorf("step %d: the limit is %d, want %d", i, got, step.want)
		}
	}
}

func TestWrongMemoryIsRefused(t *testing.T) {
	for block, want := range map[string]string{
		"failover {\n memory\n}":                    "want one size",
		"failover {\n memory 1 2\n}":                "want one size",
		"failover {\n memory lots\n}":               `Caddyfile:3`,
		"failover {\n memory -1MiB\n}":              `"-1MiB"`,
		"failover {\n memory 10KiB\n}":              "at least 1MiB",
		"failover {\n memory 0\n}":                  "at least 1MiB",
		"failover {\n memory 2MiB\n memory 3MiB\n}": "twice",
		"failover {\n memories 2MiB\n}":             `"memories"`,
		"failover 2MiB":                             `"2MiB"`,
		"failover\nfailover":                        "twice",
	} {
		if _, err := tryAdapt("{\n" + block + "\n}"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", block, err, want)
		}
	}
	if err := (&App{Memory: 100}).Validate(); err == nil {
		t.Error("100 bytes are valid")
	}
}

func TestParseMemory(t *testing.T) {
	for text, want := range map[string]int64{
		"max\n": 0, "": 0, "1073741824\n": 1 << 30, "9223372036854775807\n": 1<<63 - 1, "-1": 0, "0": 0,
		"MemTotal:       16384 kB\nMemFree: 1 kB\n": 16 << 20, "MemTotal: x kB": 0,
	} {
		if got, ok := parseMemory([]byte(text)); ok != (want > 0) || ok && got != want {
			t.Errorf("%q: got %d, %v", text, got, ok)
		}
	}
	if n := memoryByDefault(); n <= 0 {
		t.Errorf("by default bodies may take %d bytes", n)
	}
}

// BenchmarkUpload is what reading a body through a recording costs.
func BenchmarkUpload(b *testing.B) {
	for _, size := range []int64{8 << 10, 64 << 10, 1 << 20} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			b.SetBytes(size)
			for b.Loop() {
				rec := recordOf(b, io.LimitReader(endless{}, size), size, 1<<20)
				one := rec.replay(time.Now())
				_, _ = io.Copy(io.Discard, struct{ io.Reader }{one})
				one.Close()
				rec.finish()
			}
		})
	}
}
