package e2e

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// A load sends requests at a constant rate, whether or not earlier ones have been answered, and counts the answers.
type load struct {
	p      *proxy
	method string
	path   string
	body   string
	quit   chan struct{}
	done   chan struct{}

	mu     sync.Mutex
	times  []time.Duration
	seen   map[string]int // answers, by status and body or Retry-After
	failed int
	errors []string // the first five failures
}

// startLoad sends rate requests a second until stop. An answer is good if its status is 200 and it ends with the
// digest of the request's whole body.
func (p *proxy) startLoad(rate int, method, body string) *load {
	return p.startLoadAt("/", rate, method, body)
}

// startLoadAt is startLoad for a path.
func (p *proxy) startLoadAt(path string, rate int, method, body string) *load {
	l := &load{p: p, method: method, path: path, body: body, seen: make(map[string]int), quit: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(l.done)
		var wg sync.WaitGroup
		defer wg.Wait()
		ticker := time.NewTicker(time.Second / time.Duration(rate))
		defer ticker.Stop()
		for {
			select {
			case <-l.quit:
				return
			case <-ticker.C:
				wg.Go(l.one)
			}
		}
	}()
	return l
}

func (l *load) one() {
	began := time.Now()
	what, ok := l.send()
	took := time.Since(began)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.times = append(l.times, took)
	l.seen[what]++
	if !ok {
		l.failed++
		if len(l.errors) < 5 {
			l.errors = append(l.errors, what)
		}
	}
}

func (l *load) send() (string, bool) {
	var reader io.Reader
	if l.body != "" {
		reader = strings.NewReader(l.body)
	}
	resp, err := l.p.do(l.method, l.path, reader)
	if err != nil {
		return err.Error(), false
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err.Error(), false
	}
	if after := resp.Header.Get("Retry-After"); len(text) == 0 && after != "" {
		text = []byte("retry after " + after)
	}
	whole := strings.HasSuffix(string(text), digest(l.body))
	return fmt.Sprintf("%d %s", resp.StatusCode, text), resp.StatusCode == http.StatusOK && whole
}

// answered returns the number of requests that have ended.
func (l *load) answered() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.times)
}

// await waits until n more requests have ended, however slowly, as long as they do.
func (l *load) await(n int) {
	l.p.t.Helper()
	for until := l.answered() + n; l.answered() < until; {
		next := min(until, l.answered()+50)
		eventually(l.p.t, "50 more answers", func() bool { return l.answered() >= next })
	}
}

// stop ends the load and waits for the answers to its requests.
func (l *load) stop() {
	close(l.quit)
	<-l.done
}

// wantNoFailure fails the test unless every answer of the load was good.
func (l *load) wantNoFailure() {
	l.p.t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failed > 0 {
		l.p.t.Errorf("%d of %d calls failed: %q", l.failed, len(l.times), l.errors)
	}
}

// wantFailures fails the test if more than the part most of the answers was not good.
func (l *load) wantFailures(most float64) {
	l.p.t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if float64(l.failed) > most*float64(len(l.times)) {
		l.p.t.Errorf("%d of %d calls failed: %q", l.failed, len(l.times), l.errors)
	}
}

// longer returns how many calls took longer than than.
func (l *load) longer(than time.Duration) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, took := range l.times {
		if took > than {
			n++
		}
	}
	return n
}

// quantile returns the q-quantile of the calls' durations.
func (l *load) quantile(q float64) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	slices.Sort(l.times)
	if len(l.times) == 0 {
		return 0
	}
	return l.times[min(len(l.times)-1, int(q*float64(len(l.times))))]
}
