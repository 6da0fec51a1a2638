package replay

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/apifailover/caddy-failover/internal/memory"
)

// recordOf returns a recording of a body.
func recordOf(t testing.TB, body io.Reader, length, limit int64) *Recording {
	if memory.Bodies.Limit() == 0 {
		memory.Bodies.SetLimit(256 << 20)
	}
	r, err := http.NewRequest("PUT", "http://api.test/", body)
	if err != nil {
		t.Fatal(err)
	}
	r.ContentLength = length
	return NewRecording(r, Options{Limit: limit})
}

func readSome(t *testing.T, r io.Reader, n int, want string) {
	t.Helper()
	buffer := make([]byte, n)
	if n, err := io.ReadFull(r, buffer); err != nil || string(buffer[:n]) != want {
		t.Fatalf("read %q, %v, want %q", buffer[:n], err, want)
	}
}

func readAll(t *testing.T, r io.Reader, want string, wantErr error) {
	t.Helper()
	got, err := io.ReadAll(r)
	if string(got) != want || !errors.Is(err, wantErr) {
		t.Fatalf("read %q, %v, want %q, %v", got, err, want, wantErr)
	}
}

func TestReplay(t *testing.T) {
	const text = "0123456789"
	rec := recordOf(t, strings.NewReader(text), 10, 10)
	one := rec.NewReader(time.Now())
	readSome(t, one, 4, "0123")
	one.Close()
	readAll(t, one, "", ErrReplaced)
	if !rec.Replayable() {
		t.Fatal("half a body cannot be sent again")
	}
	two := rec.NewReader(time.Now())
	readSome(t, two, 2, "01")
	readSome(t, two, 4, "2345") // from the record, then from the client
	three := rec.NewReader(time.Now())
	readAll(t, three, text, nil)
	readAll(t, two, "6789", nil)
	two.Close()
	two.Close()
	three.Close()
	if rec.open != 0 || !rec.Replayable() || rec.Broken() {
		t.Errorf("%d open, replayable %v, broken %v", rec.open, rec.Replayable(), rec.Broken())
	}
	rec.Finish()
	if rec.pieces != nil || rec.Replayable() {
		t.Error("the body is kept when nobody needs it")
	}
}

func TestReplayLimit(t *testing.T) {
	for _, test := range []struct {
		name          string
		length, limit int64
		read          int
		again         bool
	}{
		{"at the limit", -1, 10, 10, true},
		{"above it", -1, 9, 10, false},
		{"above it, which is seen with the last byte asked for", -1, 9, 9, false},
		{"a declared length above it, of which nothing was read", 10, 9, 0, true},
		{"a declared length above it", 10, 9, 1, false},
	} {
		rec := recordOf(t, strings.NewReader("0123456789"), test.length, test.limit)
		one := rec.NewReader(time.Now())
		readSome(t, one, test.read, "0123456789"[:test.read])
		if got := rec.Replayable(); got != test.again {
			t.Errorf("%s: replayable %v", test.name, got)
		}
		readAll(t, one, "0123456789"[test.read:], nil) // the first attempt reads on whatever is kept
		if got := int64(len(recorded(rec))); got > test.limit {
			t.Errorf("%s: %d bytes are kept", test.name, got)
		}
		one.Close()
	}
}

func recorded(rec *Recording) []byte {
	if rec.dropped && rec.from > 0 {
		return nil
	}
	var all []byte
	for _, p := range rec.pieces {
		all = append(all, p.Data[:p.n]...)
	}
	return all
}

// TestBodyThatIsNotKept checks that such a body can be sent again until an attempt has read from it.
func TestBodyThatIsNotKept(t *testing.T) {
	rec := recordOf(t, strings.NewReader("0123"), 4, -1)
	if !rec.Replayable() {
		t.Error("cannot be sent again before anything was sent")
	}
	readAll(t, rec.NewReader(time.Now()), "0123", nil)
	if rec.Replayable() || len(recorded(rec)) > 0 {
		t.Error("it is kept")
	}
}

func TestReplayOfABrokenBody(t *testing.T) {
	broken := errors.New("client hung up")
	rec := recordOf(t, io.MultiReader(strings.NewReader("0123"), iotest.ErrReader(broken)), -1, 10)
	readAll(t, rec.NewReader(time.Now()), "0123", broken)
	if rec.Replayable() || !rec.Broken() {
		t.Errorf("replayable %v, broken %v", rec.Replayable(), rec.Broken())
	}
	readAll(t, rec.NewReader(time.Now()), "0123", broken)
}

// TestFinalAttemptKeepsNothing checks that nothing more is kept after Finish.
func TestFinalAttemptKeepsNothing(t *testing.T) {
	rec := recordOf(t, strings.NewReader("0123456789"), -1, 100)
	one := rec.NewReader(time.Now())
	readSome(t, one, 3, "012")
	one.Close()
	two := rec.NewReader(time.Now())
	rec.Finish()
	readAll(t, two, "0123456789", nil)
	if got := len(recorded(rec)); got > 3 {
		t.Errorf("%d bytes are kept", got)
	}
	two.Close()
	if rec.pieces != nil {
		t.Error("the body is kept when nobody needs it")
	}
}

// pipeReader is a body whose reads return the strings sent to it, one each.
type pipeReader chan string

func (r pipeReader) Read(p []byte) (int, error) {
	s, ok := <-r
	if !ok {
		return 0, io.EOF
	}
	return copy(p, s), nil
}

// TestOldReaderAtTheSource checks that the next attempt gets the bytes of a read during which an
// attempt was closed.
func TestOldReaderAtTheSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := make(pipeReader)
		rec := recordOf(t, source, -1, 100)
		one := rec.NewReader(time.Now())
		var wg sync.WaitGroup
		wg.Go(func() { readAll(t, one, "abc", ErrReplaced) })
		source <- "abc"
		synctest.Wait() // the reader waits for more
		one.Close()
		two := rec.NewReader(time.Now())
		wg.Go(func() { readAll(t, two, "abcdefghi", nil) })
		synctest.Wait()
		if !two.Waiting() {
			t.Error("waiting for the client counts as the endpoint's time")
		}
		time.Sleep(time.Second)
		source <- "def"
		source <- "ghi"
		close(source)
		wg.Wait()
		if waited := two.Waited(); waited < time.Second {
			t.Errorf("the client kept the attempt waiting for %v", waited)
		}
		two.Close()
		rec.Finish()
	})
}

// TestWaiterIsCutOff checks that Close ends the read of an attempt that waits for another
// attempt's read.
func TestWaiterIsCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := make(pipeReader)
		rec := recordOf(t, source, -1, 100)
		one, two := rec.NewReader(time.Now()), rec.NewReader(time.Now())
		var wg sync.WaitGroup
		wg.Go(func() { readAll(t, one, "x", nil) })
		synctest.Wait()
		wg.Go(func() { readAll(t, two, "", ErrReplaced) })
		synctest.Wait()
		two.Close()
		synctest.Wait()
		source <- "x"
		close(source)
		wg.Wait()
	})
}

// TestSourcePanics checks that a panic in the client's body leaves no reader waiting.
func TestSourcePanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan bool)
		rec := recordOf(t, readerFunc(func([]byte) (int, error) { <-gate; panic("a bug") }), -1, 100)
		one, two := rec.NewReader(time.Now()), rec.NewReader(time.Now())
		var wg sync.WaitGroup
		wg.Go(func() {
			readAll(t, one, "", errSourcePanicked)
		})
		synctest.Wait()
		wg.Go(func() { readAll(t, two, "", errSourcePanicked) })
		synctest.Wait()
		close(gate)
		wg.Wait()
		if rec.Replayable() || !rec.Broken() {
			t.Errorf("replayable %v, broken %v", rec.Replayable(), rec.Broken())
		}
		one.Close()
		two.Close()
	})
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// TestReplaysAtRandom checks that the last attempt gets the whole body, wherever earlier
// attempts were closed, even during their reads.
func TestReplaysAtRandom(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 4))
		text := make([]byte, rng.IntN(5000))
		for i := range text {
			text[i] = byte(rng.Uint32())
		}
		rec := recordOf(t, iotest.HalfReader(bytes.NewReader(text)), -1, int64(len(text)))
		var wg sync.WaitGroup
		for range rng.IntN(4) {
			r, upTo := rec.NewReader(time.Now()), rng.IntN(len(text)+1)
			begun := make(chan bool)
			wg.Go(func() {
				close(begun)
				_, _ = io.ReadFull(r, make([]byte, upTo))
			})
			<-begun
			r.Close()
		}
		last := rec.NewReader(time.Now())
		got, err := io.ReadAll(last)
		if err != nil || !bytes.Equal(got, text) {
			t.Fatalf("seed %d: got %d of %d bytes, %v", seed, len(got), len(text), err)
		}
		wg.Wait()
		rec.Finish()
		last.Close()
		if rec.open != 0 || rec.pieces != nil {
			t.Fatalf("seed %d: %d open", seed, rec.open)
		}
	}
}

// fedBody is a client's body with trailers. splits determines the length of each read.
type fedBody struct {
	text    []byte
	splits  []byte
	trailer http.Header
	sent    http.Header
}

func (b *fedBody) Read(p []byte) (int, error) {
	most := len(p)
	withEnd := false
	if len(b.splits) > 0 {
		most, withEnd = int(b.splits[0]%64), b.splits[0]&64 != 0
		b.splits = b.splits[1:]
	}
	n := copy(p[:min(most, len(p))], b.text)
	b.text = b.text[n:]
	if len(b.text) == 0 && (n == 0 || withEnd) {
		for field, values := range b.sent {
			b.trailer[field] = values
		}
		return n, io.EOF
	}
	return n, nil
}

func (b *fedBody) Close() error { return nil }

// FuzzReplay checks that each attempt gets exactly the client's bytes, and at their end the
// trailers without credentials, or an error: wherever earlier attempts stopped, and however the
// client's reads are split.
func FuzzReplay(f *testing.F) {
	f.Add([]byte("a body that is sent again"), []byte{3, 64, 0, 70}, uint16(5), uint16(9), int16(100), true)
	f.Add([]byte("a body that is too long to be kept"), []byte{200, 1}, uint16(0), uint16(12), int16(8), false)
	f.Add([]byte{}, []byte{0}, uint16(1), uint16(1), int16(0), true)
	f.Fuzz(func(t *testing.T, text, splits []byte, readFirst, readSecond uint16, limit int16, strips bool) {
		options := Options{Limit: int64(max(0, limit))}
		if strips {
			options.Strip = []string{"Authorization"}
		}
		r, err := http.NewRequestWithContext(t.Context(), "PUT", "http://api.test/", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Trailer = http.Header{"X-Sum": nil, "Authorization": nil}
		r.Body = &fedBody{text: text, splits: splits, trailer: r.Trailer, sent: http.Header{"X-Sum": {"42"}, "Authorization": {"secret"}}}
		r.ContentLength = -1
		rec := NewRecording(r, options)
		for _, most := range []int{int(readFirst), int(readSecond), len(text) + 1} {
			out := r.WithContext(t.Context())
			rec.Send(out, time.Now())
			buffer := make([]byte, most)
			n, err := io.ReadFull(out.Body, buffer)
			if !bytes.Equal(buffer[:n], text[:min(n, len(text))]) || n > len(text) {
				t.Fatalf("%q came as %q", text, buffer[:n])
			}
			switch {
			case err == io.EOF || err == io.ErrUnexpectedEOF:
				want := http.Header{"X-Sum": {"42"}}
				if !strips {
					want["Authorization"] = []string{"secret"}
				}
				if n != len(text) || fmt.Sprint(out.Trailer) != fmt.Sprint(want) {
					t.Fatalf("%q ended after %d bytes with %v", text, n, out.Trailer)
				}
			case err != nil && rec.Replayable():
				t.Fatalf("%q: %v though it is kept", text, err)
			}
			if err := out.Body.Close(); err != nil {
				t.Fatal(err)
			}
			if _, err := out.Body.Read(make([]byte, 1)); err == nil {
				t.Fatal("read after it was closed")
			}
		}
	})
}

// TestTakeBack checks that a body that is not kept can be sent again after TakeBack, as long
// as only its first part was read.
func TestTakeBack(t *testing.T) {
	text := strings.Repeat("0123456789", 10_000)
	for _, length := range []int64{-1, int64(len(text))} {
		rec := recordOf(t, strings.NewReader(text), length, -1)
		one := rec.NewReader(time.Now())
		readSome(t, one, 4, "0123")
		if rec.Replayable() {
			t.Error("a body that may have been sent can be sent again")
		}
		one.Close()
		if !rec.TakeBack() {
			t.Fatal("the first part is not held")
		}
		two := rec.NewReader(time.Now())
		readAll(t, two, text, nil)
		if rec.TakeBack() {
			t.Error("the whole body is held")
		}
	}
}
