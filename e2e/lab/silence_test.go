package lab

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// silentAfter answers with a body that stops after its first part; from then on only then comes, each second.
func silentAfter(kind, first, then string) roundTrip {
	return func(r *http.Request) (*http.Response, error) {
		resp := streamOf(r, func(ctx context.Context, w io.Writer) error {
			for part := first; ; part = then {
				if part != "" {
					if _, err := io.WriteString(w, part); err != nil {
						return err
					}
				}
				if err := pauseFor(ctx, time.Second); err != nil {
					return err
				}
			}
		})
		resp.Header.Set("Content-Type", kind)
		return resp, nil
	}
}

// givesUp asks for a response and reports whether it was whole when the client gave up.
func (l *lab) givesUp(patience time.Duration, path string) (whole bool) {
	ctx, leave := context.WithTimeout(context.Background(), patience)
	defer leave()
	defer func() {
		if recover() != nil {
			whole = false // the connection was aborted
		}
	}()
	return l.callWith(ctx, http.MethodPost, path, `{"model":"m"}`).Code == http.StatusOK && ctx.Err() == nil
}

// lostInSilence sends calls whose clients give up after a time, and returns how many got no whole response.
func (l *lab) lostInSilence(n int, every, patience time.Duration, path string) (lost int) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range n {
		time.Sleep(every)
		wg.Go(func() {
			if !l.givesUp(patience, path) {
				mu.Lock()
				lost++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return lost
}

const silentSite = "failover {\nname lab\n%s\nendpoint http://one:1 {\nname one\n}\nendpoint http://two:1 {\nname two\n}\n}"

// TestBodiesThatStallUntilClientsLeave has a primary whose responses begin on time and stop coming, and clients that
// leave. Few calls are lost to it, also while it goes on so, and it is back when it is well again.
func TestBodiesThatStallUntilClientsLeave(t *testing.T) {
	const events, asJSON = "text/event-stream", "application/json"
	for _, test := range []struct {
		name, options, kind, first, then string
		patience                         time.Duration
		known                            int
	}{
		{"a token", "", events, token, "", 4 * time.Second, 30},
		{"a token and comments", "commit first_byte", events, token, ": keep-alive\n\n", 4 * time.Second, 30},
		{"headers", "", events, "", "", 3 * time.Second, 30},
		{"half of a document", "", asJSON, `{"a":`, "", 4 * time.Second, 30},
		{"patient clients", "", events, token, "", 20 * time.Second, 30},
		{"an API, fresh", "api openai", events, token, "", 4 * time.Second, 0},
		{"an API, held back", "api openai\ncommit complete", events, token, ": ping\n\n", 4 * time.Second, 0},
		{"an API, a document", "api openai", asJSON, `{"a":`, "", 4 * time.Second, 30},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := openLab(t, fmt.Sprintf(silentSite, test.options))
				defer l.close()
				good := sends(40, 20*time.Millisecond, token)
				l.on("one:1", good)
				l.on("two:1", good)
				for range test.known {
					l.givesUp(time.Minute, "/")
				}
				l.on("one:1", silentAfter(test.kind, test.first, test.then))
				const every = 500 * time.Millisecond
				lost := l.lostInSilence(240, every, test.patience, "/")
				if most := 16 + int(test.patience/every); lost > most {
					t.Errorf("%d of 240 calls are lost, want at most %d; %s %v", lost, most, l.endpoint("one").state(), l.endpoint("one").moves())
				}
				l.on("one:1", good)
				l.lostInSilence(120, every, time.Minute, "/")
				if one := l.endpoint("one").status(); one.State != "closed" || one.Share < 1 {
					t.Errorf("well again, it is %s with a share of %v", one.State, one.Share)
				}
				synctest.Wait()
			})
		})
	}
}

// TestSilenceThatIsUsual has clients that leave silent streams of an endpoint that is well.
func TestSilenceThatIsUsual(t *testing.T) {
	for _, test := range []struct {
		name, options string
		others        bool // other calls are served meanwhile
	}{
		{"nothing but subscriptions", "", false},
		{"subscriptions beside calls", "", true},
		{"impatient clients of an API", "api openai", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := openLab(t, fmt.Sprintf(silentSite, test.options))
				defer l.close()
				l.on("one:1", func(r *http.Request) (*http.Response, error) {
					if r.URL.Path == "/silent" {
						return silentAfter("text/event-stream", token, ": ping\n\n")(r)
					}
					return sends(40, 20*time.Millisecond, token)(r)
				})
				var wg sync.WaitGroup
				if test.others {
					wg.Go(func() {
						if lost := l.lostInSilence(120, time.Second, time.Minute, "/"); lost > 0 {
							t.Errorf("%d other calls are lost", lost)
						}
					})
				}
				l.lostInSilence(120, time.Second, 10*time.Second, "/silent")
				wg.Wait()
				if moves := l.endpoint("one").moves(); len(moves) > 0 {
					t.Errorf("%+v", moves)
				}
				synctest.Wait()
			})
		})
	}
}
