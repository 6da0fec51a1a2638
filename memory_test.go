package failover

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/apifailover/caddy-failover/internal/memory"
	"github.com/apifailover/caddy-failover/internal/replay"
)

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
		{second.Stop, memory.Default()},
		{first.Start, 2 << 20},
		{third.Start, memory.Default()},
		{first.Stop, memory.Default()},
		{third.Stop, memory.Default()},
	} {
		if err := step.do(); err != nil {
			t.Fatal(err)
		}
		if got := memory.Bodies.Limit(); got != step.want {
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

// BenchmarkUpload is what reading a body through a recording costs.
func BenchmarkUpload(b *testing.B) {
	for _, size := range []int64{8 << 10, 64 << 10, 1 << 20} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			b.SetBytes(size)
			for b.Loop() {
				rec := recordOf(b, io.LimitReader(endless{}, size), size, 1<<20)
				one := rec.NewReader(time.Now())
				_, _ = io.Copy(io.Discard, struct{ io.Reader }{one})
				one.Close()
				rec.Finish()
			}
		})
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

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }
