package call

import (
	"io"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/apifailover/caddy-failover/internal/outcome"
)

// TestSlowReaders checks that an endpoint that cuts an answer is blamed if the client reads it at once, but
// not if the client reads slowly.
func TestSlowReaders(t *testing.T) {
	for _, tt := range []struct {
		pause time.Duration // of the client, between reads
		cut   outcome.Outcome
	}{{200 * time.Millisecond, outcome.Cancelled}, {0, outcome.Truncated}} {
		synctest.Test(t, func(t *testing.T) {
			a := &Attempt{Call: &Call{Handler: new(Handler)}, client: t.Context()}
			a.answer = io.NopCloser(io.MultiReader(io.LimitReader(zeros{}, 1<<20), iotest.ErrReader(io.ErrUnexpectedEOF)))
			buffer := make([]byte, 32<<10)
			var err error
			for err == nil {
				_, err = a.readAnswer(buffer)
				time.Sleep(tt.pause)
			}
			if o := a.bodyOutcome(err); o != tt.cut {
				t.Errorf("a client that pauses for %v: %v, want %v", tt.pause, o, tt.cut)
			}
		})
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }
