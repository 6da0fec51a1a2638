package failover

import (
	"fmt"
	"io"
	"net/http"
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
		one := rec.open1(t)
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
		eventually(t, 2*time.Second, "the memory of a recording is free", func() bool { return bodies.Used() <= before })

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

// fill takes the memory for bodies but so much.
func fill(t *testing.T, left int64) (free func()) {
	t.Helper()
	n := bodies.Limit() - bodies.Used() - left
	if !bodies.Reserve(n) {
		t.Fatal("there is no memory left")
	}
	return func() { bodies.Release(n) }
}

// TestBodiesArePassedOnWhereThereIsNoMemory: whole, but once. A call that needs its body
// in memory is refused for a moment.
func TestBodiesArePassedOnWhereThereIsNoMemory(t *testing.T) {
	before := bodies.Used()
	one, two := newAPI(t, "one"), newAPI(t, "two")
	directive := site("\n\tbreaker off\n\tretry {\n\t\tmethods any\n\t\tbuffer 4MiB\n\t\tbudget 100% 1000\n\t}", one, two)
	json := strings.Replace(pooled("json", "", one), "name one\n", "name one\n\t\tset_json a 1\n", 1)
	p := startCaddy(t, "route /json {\n"+json+"\n}\nroute {\n"+directive+"\n}")
	kept := func(want uint64) {
		t.Helper()
		if got := runningPool(t, "api").notKept.Load(); got != want {
			t.Errorf("%d bodies count as not kept, want %d", got, want)
		}
	}
	sizes := []int{10, smallBody, smallBody + 1, 100_000, 3_000_000}
	free := fill(t, 0)
	for i, size := range sizes {
		body := randomBody(size)
		if got := p.call("POST", "/", body); got.status != 200 || got.body != "one"+digest(body) {
			t.Errorf("%d bytes: got %d %q", size, got.status, got.body)
		}
		kept(uint64(i + 1))
	}
	if got := p.call("POST", "/json", `{"b":2}`); got.status != 503 || got.header.Get("Retry-After") == "" || !strings.Contains(got.body, "out_of_memory") {
		t.Errorf("json: got %+v", got)
	}
	one.answer(503)
	for _, size := range sizes {
		if got := p.call("POST", "/", randomBody(size)); got.status != 503 {
			t.Errorf("%d bytes: got %d", size, got.status)
		}
	}
	free()
	for _, size := range sizes {
		body := randomBody(size)
		if got := p.call("POST", "/", body); got.status != 200 || got.body != "two"+digest(body) {
			t.Errorf("%d bytes with memory: got %d %q", size, got.status, got.body)
		}
	}
	kept(uint64(2 * len(sizes)))
	eventually(t, 2*time.Second, "no memory is taken", func() bool { return bodies.Used() <= before })
}

// TestHeldAnswersArePassedOnWhereThereIsNoMemory, whole.
func TestHeldAnswersArePassedOnWhereThereIsNoMemory(t *testing.T) {
	before := bodies.Used()
	one := newAPI(t, "one")
	text := randomBody(300_000)
	one.behave(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) })
	p := startCaddy(t, site("\n\tcommit complete\n\tnext_on 200 nothing", one))
	for _, left := range []int64{0, 10_000, 100_000} {
		free := fill(t, left)
		if status, body := p.get("/"); status != 200 || body != text {
			t.Errorf("with %d bytes left: got %d and %d bytes", left, status, len(body))
		}
		free()
	}
	if runningPool(t, "api").notKept.Load() < 3 {
		t.Error("the answers do not count as not kept")
	}
	eventually(t, 2*time.Second, "no memory is taken", func() bool { return bodies.Used() <= before })
}

// TestTheMemoryIsConfigured in the global options, and follows reloads.
func TestTheMemoryIsConfigured(t *testing.T) {
	one := newAPI(t, "one")
	p := startCaddy(t, site("", one))
	with := func(block string) {
		t.Helper()
		if err := p.loadCaddyfile(strings.Replace(p.caddyfile(site("", one)), "{\n", "{\n"+block, 1)); err != nil {
			t.Fatal(err)
		}
	}
	for _, step := range []struct {
		block string
		want  int64
	}{
		{"", memoryByDefault()},
		{"failover {\n\tmemory 2MiB\n}\n", 2 << 20},
		{"failover {\n\tmemory 1GB\n}\n", 1_000_000_000},
		{"failover\n", memoryByDefault()},
		{"failover {\n\tmemory 3MiB\n}\n", 3 << 20},
		{"", memoryByDefault()},
	} {
		with(step.block)
		if got := bodies.Limit(); got != step.want {
			t.Errorf("%q: the limit is %d, want %d", step.block, got, step.want)
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
				one := rec.open1(b)
				_, _ = io.Copy(io.Discard, struct{ io.Reader }{one})
				one.Close()
				rec.finish()
			}
		})
	}
}
