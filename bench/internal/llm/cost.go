package llm

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/apifailover/caddy-failover/bench/internal/process"
	"github.com/apifailover/caddy-failover/bench/internal/stats"
)

// A Cost is what a system takes for completions of a provider that is well.
type Cost struct {
	Requests  int     `json:"requests"`
	CPU       float64 `json:"cpu_us_per_request"`
	PerSecond float64 `json:"requests_per_second"`
	P50       float64 `json:"p50_ms"`
	P99       float64 `json:"p99_ms"`
	Memory    float64 `json:"memory_peak_mib"`
}

const (
	costWorkers = 32
	costPrompt  = 2 << 10 // bytes
)

// cost measures n completions without streaming, over 32 connections, after a third as many to warm up.
func (s *system) cost(ctx context.Context, n int) (*Cost, error) {
	body := fmt.Appendf(nil, `{"model":%q,"messages":[{"role":"user","content":%q}]}`, defaultFallback, strings.Repeat("word ", costPrompt/5))
	if transport, ok := s.client.Transport.(*http.Transport); ok {
		transport.MaxIdleConnsPerHost = costWorkers
	}
	if _, _, err := s.completions(ctx, body, n/3); err != nil {
		return nil, err
	}
	pids := s.Members()
	before := process.CPU(pids)
	took, elapsed, err := s.completions(ctx, body, n)
	if err != nil {
		return nil, err
	}
	used := process.CPU(pids) - before
	_, peak := process.Memory(pids)
	return &Cost{
		Requests:  n,
		CPU:       float64(used.Nanoseconds()) / 1e3 / float64(n),
		PerSecond: float64(n) / elapsed.Seconds(),
		P50:       stats.Milliseconds(stats.Quantile(took, 0.5)),
		P99:       stats.Milliseconds(stats.Quantile(took, 0.99)),
		Memory:    float64(peak) / (1 << 20),
	}, nil
}

// completions sends n requests with costWorkers at once.
func (s *system) completions(ctx context.Context, body []byte, n int) (took []time.Duration, elapsed time.Duration, err error) {
	took = make([]time.Duration, n)
	errs := make([]error, costWorkers)
	var next atomic.Int64
	var wg sync.WaitGroup
	began := time.Now()
	for worker := range costWorkers {
		wg.Go(func() {
			for errs[worker] == nil {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				sent := time.Now()
				errs[worker] = s.completion(ctx, body)
				took[i] = time.Since(sent)
			}
		})
	}
	wg.Wait()
	for _, one := range errs {
		if one != nil {
			return nil, 0, one
		}
	}
	return took, time.Since(began), nil
}

func (s *system) completion(ctx context.Context, body []byte) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url+"/v1/chat/completions", bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Authorization", "Bearer of-the-client")
	for name, value := range s.header(defaultFallback, defaultFallback) {
		request.Header.Set(name, value)
	}
	resp, err := s.client.Do(request)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if text, err := io.ReadAll(resp.Body); err != nil || !strings.Contains(string(text), canonical) {
		return fmt.Errorf("status %d, %d bytes, %w", resp.StatusCode, len(text), err)
	}
	return nil
}
