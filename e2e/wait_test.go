package e2e

import (
	"context"
	"testing"
	"time"
)

// patience is how long a test waits for a required result on a busy machine.
const patience = 30 * time.Second

// eventually waits until a condition holds, and returns how long that took.
func eventually(t testing.TB, what string, holds func() bool) time.Duration {
	t.Helper()
	began := time.Now()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for !holds() {
		if time.Since(began) > patience {
			t.Fatalf("not within %v: %s", patience, what)
		}
		<-ticker.C
	}
	return time.Since(began)
}

// receive returns the next value from a channel, and fails the test if none comes.
func receive[T any](t testing.TB, what string, from <-chan T) T {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	select {
	case value, ok := <-from:
		if !ok {
			t.Fatalf("%s: the channel is closed", what)
		}
		return value
	case <-ctx.Done():
		t.Fatalf("%s: nothing has come", what)
	}
	panic("unreachable")
}

// receiveEnd waits until a channel is closed.
func receiveEnd(t testing.TB, what string, end <-chan struct{}) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	select {
	case <-end:
	case <-ctx.Done():
		t.Fatalf("not within %v: %s", patience, what)
	}
}

// pause waits for a time and returns true. It returns false if the context ends before.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
