package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

var errPanics = errors.New("the transport panics")

// chaos returns an endpoint with random faults. mu guards rng.
func chaos(rng *rand.Rand, mu *sync.Mutex) roundTrip {
	return func(r *http.Request) (*http.Response, error) {
		mu.Lock()
		what, pause, size := rng.IntN(16), time.Duration(rng.ExpFloat64()*float64(200*time.Millisecond)), rng.IntN(5)
		late := rng.IntN(3) == 0
		mu.Unlock()
		if late {
			if r.Body != nil {
				io.Copy(io.Discard, r.Body)
				r.Body.Close()
			}
			if err := pauseFor(r.Context(), pause); err != nil {
				return nil, err
			}
		}
		switch what {
		case 0:
			return refusesConnections(r)
		case 1:
			return nil, io.ErrUnexpectedEOF
		case 2:
			return hangs(r)
		case 3:
			return respond(r, 429, "", "Retry-After", "1"), nil
		case 4:
			return respond(r, 503, "busy"), nil
		case 5:
			return respond(r, 401, "who"), nil
		case 6:
			return respond(r, 500, `{"error":{"type":"server_error"}}`, "Content-Type", "application/json"), nil
		case 7:
			panic(errPanics)
		case 8:
			return respond(r, 200, `{"error":{"type":"server_error","message":"x"}}`, "Content-Type", "application/json"), nil
		}
		resp := respond(r, 200, "")
		pr, pw := io.Pipe()
		resp.Body, resp.ContentLength = pr, -1
		resp.Header.Set("Content-Type", "text/event-stream")
		go func() {
			stop := context.AfterFunc(r.Context(), func() { pw.CloseWithError(context.Canceled) })
			defer func() {
				stop()
				pw.CloseWithError(context.Canceled) // stop may have won against the function
			}()
			for i := range size {
				if _, err := fmt.Fprintf(pw, "data: {\"choices\":[{\"delta\":{\"content\":\"%d\"}}],\"usage\":{\"total_tokens\":%d}}\n\n", i, 10*i); err != nil {
					return
				}
				if pauseFor(r.Context(), pause/4) != nil {
					return
				}
			}
			switch what {
			case 9:
				pw.CloseWithError(io.ErrUnexpectedEOF)
			case 10:
				<-r.Context().Done()
				pw.CloseWithError(r.Context().Err())
			default:
				io.WriteString(pw, "data: [DONE]\n\n")
				pw.Close()
			}
		}()
		return resp, nil
	}
}

// chaosConfig returns a pool of n endpoints with random options.
func chaosConfig(rng *rand.Rand, n int) string {
	options := []string{
		"api openai", "commit complete", "commit first_event", "breaker off", "all_down wait 3s", "all_down wait 2s 5", "all_down try_anyway", "lb_try_duration 4s",
		"retry {\nmethods any\n}", "retry {\nmethods any\nhedge 50ms max 1\n}", "retry off", "retry {\ndeadline 1s\nmethods any\nsame_endpoint 1\nwait_retry_after 2s\n}",
		"scope {header.X-Scope}", "affinity {header.X-User}", "timeout 300ms", "idle_timeout 400ms", "balance least_requests", "next_on 401",
	}
	config, chosen := "name lab\n", make(map[string]bool)
	for range rng.IntN(9) {
		one := options[rng.IntN(len(options))]
		word := strings.Replace(strings.Fields(one)[0], "lb_try_duration", "all_down", 1)
		if !chosen[word] {
			config += one + "\n"
		}
		chosen[word] = true
	}
	for i := range n {
		config += fmt.Sprintf("endpoint http://e%d:1 {\nmax_requests %d\nlimit %d requests per 1s burst 5\nlimit 20000 tokens per 1s burst 9000\nquota endpoint\n}\n", i, 1+rng.IntN(4), 5+rng.IntN(20))
	}
	return "failover {\n" + config + "}"
}

// TestNothingStaysInFlight checks that no endpoint has attempts in flight, and no call waits, after calls with random
// faults, options, clients that leave and a reload.
func TestNothingStaysInFlight(t *testing.T) {
	for seed := range uint64(40) {
		synctest.Test(t, func(t *testing.T) {
			const calls = 150
			rng, mu := rand.New(rand.NewPCG(seed, 1)), new(sync.Mutex)
			n := 1 + rng.IntN(3)
			configs := [2]string{chaosConfig(rng, n), chaosConfig(rng, 1+rng.IntN(3))}
			l := openLab(t, configs[0])
			for i := range 3 {
				l.on(fmt.Sprintf("e%d:1", i), chaos(rng, mu))
			}
			var wg sync.WaitGroup
			for call := range calls {
				mu.Lock()
				pause, leaves := time.Duration(rng.ExpFloat64()*float64(20*time.Millisecond)), 10*time.Second
				if rng.IntN(3) == 0 {
					leaves = time.Duration(rng.ExpFloat64() * float64(300*time.Millisecond))
				}
				body := []string{"", `{"model":"a","max_tokens":50}`, strings.Repeat("x", 10000)}[rng.IntN(3)]
				method, scope := []string{http.MethodGet, http.MethodPost}[rng.IntN(2)], fmt.Sprint(rng.IntN(4))
				mu.Unlock()
				time.Sleep(pause)
				if call == calls/2 {
					end := l.close
					l.provision(handlerJSON(t, configs[1]))
					end()
				}
				wg.Go(func() {
					defer func() {
						if r := recover(); r != nil && r != errPanics && r != http.ErrAbortHandler {
							panic(r)
						}
					}()
					ctx, cancel := context.WithTimeout(context.Background(), leaves)
					defer cancel()
					l.callWith(ctx, method, "/", body, "X-Scope", scope, "X-User", scope)
				})
			}
			wg.Wait()
			time.Sleep(time.Second)
			synctest.Wait()
			var pool struct {
				Waiting   struct{ Calls int64 }
				Endpoints []status
			}
			admin(t, http.MethodGet, "pools/lab", "", &pool)
			for _, e := range pool.Endpoints {
				if e.InFlight != 0 {
					t.Errorf("seed %d: %d in flight at %s, with %s\nand then %s", seed, e.InFlight, e.Name, configs[0], configs[1])
				}
			}
			if pool.Waiting.Calls != 0 {
				t.Errorf("seed %d: %d calls wait, with %s\nand then %s", seed, pool.Waiting.Calls, configs[0], configs[1])
			}
			l.close()
		})
	}
}
