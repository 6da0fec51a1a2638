package replay

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/apifailover/caddy-failover/internal/memory"
)

func TestWriteUpTo(t *testing.T) {
	large := bytes.Repeat([]byte("0123456789abcdef"), 40_000)
	before := memory.Bodies.Used()
	for name, source := range map[string]func(io.Reader) io.Reader{
		"at once":       func(r io.Reader) io.Reader { return r },
		"in parts":      iotest.HalfReader,
		"end with data": iotest.DataErrReader,
	} {
		for kept, limit := range map[string]int64{"kept": int64(len(large)), "passed on": -1, "kept at first": 100_000} {
			length := int64(len(large))
			if limit == 100_000 {
				length = -1
			}
			rec := recordOf(t, source(bytes.NewReader(large)), length, limit)
			r := rec.NewReader(time.Now())
			var got bytes.Buffer
			readSome(t, r, 3, "012")
			got.WriteString("012")
			n, err := r.WriteUpTo(&got, 100_000)
			if n != 100_000 || err != nil {
				t.Errorf("%s, %s: wrote %d, %v", name, kept, n, err)
			}
			n, err = r.WriteUpTo(&got, int64(len(large)))
			if n != int64(len(large))-100_003 || err != nil || !bytes.Equal(got.Bytes(), large) {
				t.Errorf("%s, %s: wrote %d, %v; the body is whole: %v", name, kept, n, err, bytes.Equal(got.Bytes(), large))
			}
			r.Close()
			rec.Finish()
		}
	}
	if used := memory.Bodies.Used(); used != before {
		t.Errorf("%d bytes are taken, %d were before", used, before)
	}
}

func TestWriteUpToFails(t *testing.T) {
	broken := errors.New("broken")
	rec := recordOf(t, io.MultiReader(strings.NewReader("0123"), iotest.ErrReader(broken)), 10, 10)
	r := rec.NewReader(time.Now())
	var got bytes.Buffer
	if n, err := r.WriteUpTo(&got, 10); n != 4 || err != broken {
		t.Errorf("a broken body: wrote %d, %v", n, err)
	}

	rec = recordOf(t, strings.NewReader("0123456789"), 10, 10)
	r = rec.NewReader(time.Now())
	if n, err := r.WriteUpTo(failingWriter{broken}, 10); n != 0 || err != broken {
		t.Errorf("a broken connection: wrote %d, %v", n, err)
	}
	readAll(t, rec.NewReader(time.Now()), "0123456789", nil)

	r = rec.NewReader(time.Now())
	r.Cut(ErrReplaced)
	if n, err := r.WriteUpTo(&got, 10); n != 0 || err != ErrReplaced {
		t.Errorf("cut off: wrote %d, %v", n, err)
	}
}

type failingWriter struct{ err error }

func (f failingWriter) Write([]byte) (int, error) { return 0, f.err }

// slowWriter blocks its writes until go is closed.
type slowWriter struct {
	begun, goOn chan struct{}
	got         []byte
}

func (s *slowWriter) Write(p []byte) (int, error) {
	close(s.begun)
	<-s.goOn
	s.got = append(s.got, p...)
	return len(p), nil
}

// TestPiecesBeingWrittenAreNotReused: if a body ends while a write of a part of it is under way, no other body
// gets the part's memory.
func TestPiecesBeingWrittenAreNotReused(t *testing.T) {
	text := strings.Repeat("a", 1000)
	before := memory.Bodies.Used()
	rec := recordOf(t, strings.NewReader(text), 1000, 1000)
	r := rec.NewReader(time.Now())
	w := &slowWriter{begun: make(chan struct{}), goOn: make(chan struct{})}
	done := make(chan error, 1)
	go func() {
		_, err := r.WriteUpTo(w, 1000)
		done <- err
	}()
	<-w.begun
	r.Close()
	rec.Finish()
	if used := memory.Bodies.Used(); used != before {
		t.Errorf("%d bytes are taken, %d were before", used, before)
	}
	for range 100 {
		p := memory.Bodies.Must(0, 1000)
		for i := range p.Data {
			p.Data[i] = 'b'
		}
		defer p.Free()
	}
	close(w.goOn)
	if err := <-done; err != nil || string(w.got) != text {
		t.Errorf("wrote %.20q, %v", w.got, err)
	}
}
