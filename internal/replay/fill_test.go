package replay

import (
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"
)

// TestFillReadsUpToTheLimit checks that Fill reads up to the limit, and that an attempt reads on
// from there.
func TestFillReadsUpToTheLimit(t *testing.T) {
	for name, c := range map[string]struct {
		length, limit int64
		read          int64
	}{
		"of a length":        {10, 10, 10},
		"of no known length": {-1, 100, 10},
		"longer than kept":   {-1, 4, 4},
		"not kept":           {10, 4, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const text = "0123456789"
				rec := recordOf(t, iotest.OneByteReader(strings.NewReader(text)), c.length, c.limit)
				stop := rec.Fill(func() { t.Error("the body is broken") })
				synctest.Wait()
				if rec.total != c.read {
					t.Errorf("%d bytes were read, want %d", rec.total, c.read)
				}
				stop()
				r := rec.NewReader(time.Now())
				readAll(t, r, text, nil)
				r.Close()
				rec.Finish()
			})
		})
	}
}

// TestFillReportsABrokenBody checks that Fill calls broken if the body fails, but not after stop.
func TestFillReportsABrokenBody(t *testing.T) {
	for _, stopped := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			source := make(pipeReader)
			rec := recordOf(t, io.MultiReader(source, iotest.ErrReader(io.ErrUnexpectedEOF)), -1, 100)
			broken := false
			stop := rec.Fill(func() { broken = true })
			source <- "x"
			synctest.Wait()
			if broken {
				t.Error("it was broken before it ended")
			}
			if stopped {
				stop()
			}
			close(source)
			synctest.Wait()
			if broken == stopped {
				t.Errorf("stopped %t: broken was called: %t", stopped, broken)
			}
			if !stopped && rec.Error() != io.ErrUnexpectedEOF {
				t.Errorf("the error is %v", rec.Error())
			}
		})
	}
}

// TestFillStopsWithTheRecording checks that Fill keeps nothing after Finish.
func TestFillStopsWithTheRecording(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := make(pipeReader)
		rec := recordOf(t, source, -1, 100)
		defer rec.Fill(func() { t.Error("the body is broken") })()
		source <- "x"
		synctest.Wait()
		rec.Finish()
		source <- "y"
		synctest.Wait()
		if rec.pieces != nil || !rec.dropped {
			t.Errorf("%d pieces are kept", len(rec.pieces))
		}
		close(source)
	})
}
