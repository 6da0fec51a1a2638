package e2e

import (
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
)

// TestHeldAnswersAreBounded holds many answers back at once. The heap may grow by one and a half times their size, and
// later answers must reuse that memory.
func TestHeldAnswersAreBounded(t *testing.T) {
	const calls, size = 32, 1 << 20
	one := newAPI(t, "one")
	piece := strings.Repeat("x", 64<<10)
	var mu sync.Mutex
	waiting, let := 0, make(chan struct{})
	one.behave(func(w http.ResponseWriter, r *http.Request) {
		for range size/len(piece) - 1 {
			_, _ = io.WriteString(w, piece)
		}
		_ = http.NewResponseController(w).Flush()
		mu.Lock()
		waiting++
		gate := let
		mu.Unlock()
		<-gate
		_, _ = io.WriteString(w, piece)
	})
	p := startCaddy(t, site("commit complete", one))
	heap := func() int64 {
		runtime.GC()
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		return int64(stats.HeapAlloc)
	}
	var whole int
	round := func() (grown int64) {
		before := heap()
		var wg sync.WaitGroup
		results := make(chan int, calls)
		for range calls {
			wg.Go(func() {
				resp, err := p.do(http.MethodGet, "/", nil)
				if err != nil {
					results <- 0
					return
				}
				defer resp.Body.Close()
				n, _ := io.Copy(io.Discard, resp.Body)
				results <- int(n)
			})
		}
		eventually(t, "all are held back", func() bool {
			mu.Lock()
			defer mu.Unlock()
			return waiting == calls && p.kept() >= calls*int64(size-len(piece))
		})
		grown = heap() - before
		mu.Lock()
		close(let)
		waiting, let = 0, make(chan struct{})
		mu.Unlock()
		wg.Wait()
		close(results)
		whole = 0
		for n := range results {
			if n == size {
				whole++
			}
		}
		return grown
	}
	grown := round()
	if whole != calls {
		t.Fatalf("%d of %d answers were whole", whole, calls)
	}
	t.Logf("%d answers of %d KiB held: heap grew by %d KiB, %.2f of their size", calls, size>>10, grown>>10, float64(grown)/(calls*size))
	if grown > calls*size*3/2 {
		t.Errorf("holding %d answers of 1 MiB took %d KiB", calls, grown>>10)
	}
	one.behave(func(w http.ResponseWriter, r *http.Request) {
		for range size / len(piece) {
			_, _ = io.WriteString(w, piece)
		}
	})
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 20 {
		resp, err := p.do(http.MethodGet, "/", nil)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
	runtime.ReadMemStats(&after)
	each := (after.TotalAlloc - before.TotalAlloc) / 20
	t.Logf("a later answer allocates %d KiB", each>>10)
	if each > size/2 {
		t.Errorf("a later answer of 1 MiB allocates %d KiB", each>>10)
	}
}
