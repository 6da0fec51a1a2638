package notify

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/apifailover/caddy-failover/internal/event"
)

// A fakeSender records the notices that it gets. It is safe for concurrent use.
type fakeSender struct {
	mu   sync.Mutex
	got  []string
	does func(ctx context.Context, n *Notice) error // returns the result of a try; nil: all succeed
}

func (f *fakeSender) send(ctx context.Context, n *Notice) error {
	f.mu.Lock()
	f.got = append(f.got, fmt.Sprintf("%s %s %s", n.Pool, n.Event, n.State))
	does := f.does
	f.mu.Unlock()
	if does != nil {
		return does(ctx, n)
	}
	return nil
}

func (f *fakeSender) want(t *testing.T, want ...string) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if got := strings.Join(f.got, "\n"); got != strings.Join(want, "\n") {
		t.Errorf("got:\n%s\nwant:\n%s", got, strings.Join(want, "\n"))
	}
}

func (f *fakeSender) tries() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.got)
}

// started starts a receiver in a bubble, and ends it with the test.
func started(t *testing.T, s sender, hidden ...string) (*receiver, *observer.ObservedLogs) {
	core, log := observer.New(zap.InfoLevel)
	r := newReceiver(&target{sender: s, label: "https://hooks.example.com", secrets: hidden}, defaultKinds)
	r.start(zap.New(core))
	t.Cleanup(func() {
		_ = r.Destruct()
		synctest.Wait()
	})
	return r, log
}

// happens emits an event.
func happens(pool, kind, endpoint string, incident uint64) {
	event.Latest.Add(event.Event{At: time.Now(), Kind: kind, Pool: pool, Endpoint: endpoint, Incident: incident, Count: 1})
}

// TestAReceiverGetsNotices checks that a receiver gets the notices of an incident, and the last one when
// a minute is over.
func TestAReceiverGetsNotices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		happens("before", event.AllDown, "", 1) // before it started
		f := new(fakeSender)
		started(t, f)
		happens("llm", event.BreakerOpened, "one", 1)
		time.Sleep(2 * time.Second)
		f.want(t, "llm breaker_opened degraded")
		happens("llm", event.AllDown, "", 1)
		happens("llm", event.PoolUp, "", 1)
		happens("llm", event.IncidentOver, "", 1)
		time.Sleep(50 * time.Second)
		f.want(t, "llm breaker_opened degraded")
		time.Sleep(20 * time.Second)
		f.want(t, "llm breaker_opened degraded", "llm incident_over well")
	})
}

// TestAReceiverThatHangsDelaysNothing checks that a receiver that hangs delays no event, and ends at
// once.
func TestAReceiverThatHangsDelaysNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeSender{does: func(ctx context.Context, _ *Notice) error {
			<-ctx.Done()
			return ctx.Err()
		}}
		r, log := started(t, f)
		began := time.Now()
		for i := range 10_000 {
			happens(fmt.Sprint("pool", i%10), event.BreakerOpened, fmt.Sprint(i), uint64(i%10+1))
			if i%100 == 0 {
				synctest.Wait()
			}
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("the events took %v", took)
		}
		time.Sleep(2 * time.Second)
		if err := r.Destruct(); err != nil || time.Since(began) != 2*time.Second {
			t.Errorf("it ended after %v: %v", time.Since(began), err)
		}
		synctest.Wait()
		if n := f.tries(); n != 1 || log.Len() != 0 {
			t.Errorf("%d tries, %d log lines", n, log.Len())
		}
	})
}

// TestAnEndingProcessSendsWhatIsPending checks that a receiver sends each pending notice once, and that one that hangs or fails
// is not waited for.
func TestAnEndingProcessSendsWhatIsPending(t *testing.T) {
	for name, c := range map[string]struct {
		does func(context.Context, *Notice) error
		took time.Duration
	}{
		"they succeed": {nil, 0},
		"they fail":    {func(context.Context, *Notice) error { return &statusError{status: 503} }, 0},
		"they hang": {func(ctx context.Context, _ *Notice) error {
			<-ctx.Done()
			return ctx.Err()
		}, exitWithin},
	} {
		synctest.Test(t, func(t *testing.T) {
			f := new(fakeSender)
			r, _ := started(t, f)
			happens("llm", event.AllDown, "", 1)
			time.Sleep(2 * time.Second)
			happens("llm", event.IncidentOver, "", 1) // within a minute
			happens("pay", event.BreakerOpened, "one", 1)
			synctest.Wait()
			f.mu.Lock()
			f.does = c.does
			f.mu.Unlock()
			began := time.Now()
			r.sendPending()
			r.await(began.Add(exitWithin))
			if took := time.Since(began); took != c.took {
				t.Errorf("%s: it took %v", name, took)
			}
			if n := f.tries(); n != 3 && c.took == 0 || n > 3 {
				t.Errorf("%s: %d tries", name, n)
			}
		})
	}
}

// TestAReceiverThatFallsBehindMissesNothing checks that a receiver gets the events that its subscription
// had no space for.
func TestAReceiverThatFallsBehindMissesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := new(fakeSender)
		started(t, f)
		for i := range 900 { // more than a subscription holds
			happens(fmt.Sprint("pool", i/100), event.BreakerOpened, fmt.Sprint(i), 1)
		}
		time.Sleep(10 * time.Second)
		if n := f.tries(); n != 9 {
			t.Errorf("%d notices", n)
		}
	})
}

// TestFailedNoticesAreLogged checks that a failed try is logged without secrets, and that the notice
// arrives later with the latest state.
func TestFailedNoticesAreLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := new(fakeSender)
		f.does = func(context.Context, *Notice) error {
			if f.tries() < 3 {
				return errors.New("posting to https://hooks.example.com/SeCrEt failed")
			}
			return nil
		}
		_, log := started(t, f, "SeCrEt")
		happens("llm", event.BreakerOpened, "one", 1)
		time.Sleep(1500 * time.Millisecond)
		happens("llm", event.AllDown, "", 1)
		time.Sleep(time.Minute)
		f.want(t, "llm breaker_opened degraded", "llm all_down down", "llm all_down down")
		lines := log.All()
		if len(lines) != 3 || lines[0].Message != "sending a notice failed; trying again" || lines[2].Message != "notice sent" {
			t.Errorf("%v", lines)
		}
		for _, line := range lines {
			if text := fmt.Sprint(line.ContextMap()); strings.Contains(text, "SeCrEt") || !strings.Contains(text, "hooks.example.com") {
				t.Errorf("%s", text)
			}
		}
	})
}

// TestASenderThatPanicsIsAFailure checks that there is another try after a panic.
func TestASenderThatPanicsIsAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := new(fakeSender)
		f.does = func(context.Context, *Notice) error {
			if f.tries() == 1 {
				panic("a bug")
			}
			return nil
		}
		_, log := started(t, f)
		happens("llm", event.AllDown, "", 1)
		time.Sleep(time.Minute)
		f.want(t, "llm all_down down", "llm all_down down")
		if log.Len() != 2 {
			t.Errorf("%v", log.All())
		}
	})
}
