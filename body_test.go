package failover

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"
)

// recordOf makes a recording as a policy does, for a call of an idempotent
// method.
func recordOf(t testing.TB, body io.Reader, length, limit int64) *recording {
	defaultMemory()
	h := &callHandler{callRules: callRules{retry: retryRules{attempts: 3, any: true, buffer: limit}}}
	r, err := http.NewRequest("PUT", "http://api.test/", body)
	if err != nil {
		t.Fatal(err)
	}
	r.ContentLength = length
	return h.record(r)
}

func openOne(rec *recording, t testing.TB) *replay {
	a := &attempt{client: t.Context(), began: time.Now()}
	a.sent = rec.replay(a)
	return a.sent
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
	one := openOne(rec, t)
	readSome(t, one, 4, "0123")
	one.Close()
	readAll(t, one, "", errReplaced)
	if !rec.replayable() {
		t.Fatal("half a body cannot be sent again")
	}
	two := openOne(rec, t)
	readSome(t, two, 2, "01")
	readSome(t, two, 4, "2345") // from the record, then from the client
	three := openOne(rec, t)
	readAll(t, three, text, nil)
	readAll(t, two, "6789", nil)
	two.Close()
	two.Close()
	three.Close()
	if rec.open != 0 || !rec.replayable() || rec.broken() {
		t.Errorf("%d open, replayable %v, broken %v", rec.open, rec.replayable(), rec.broken())
	}
	rec.finish()
	if rec.pieces != nil || rec.replayable() {
		t.Error("the record is kept when nobody needs it")
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
		one := openOne(rec, t)
		readSome(t, one, test.read, "0123456789"[:test.read])
		if got := rec.replayable(); got != test.again {
			t.Errorf("%s: can be sent again: %v", test.name, got)
		}
		readAll(t, one, "0123456789"[test.read:], nil) // the first attempt reads on whatever is kept
		if got := int64(len(recorded(rec))); got > test.limit {
			t.Errorf("%s: %d bytes are kept", test.name, got)
		}
		one.Close()
	}
}

func recorded(rec *recording) []byte {
	if rec.dropped && rec.from > 0 {
		return nil
	}
	var all []byte
	for _, p := range rec.pieces {
		all = append(all, p.Data[:p.n]...)
	}
	return all
}

// TestRecordsOnlyWhatMayBeSentAgain wants no copy of a body that will not be
// sent twice.
func TestRecordsOnlyWhatMayBeSentAgain(t *testing.T) {
	for _, test := range []struct {
		name   string
		method string
		rules  retryRules
		quotas bool
		keeps  bool
	}{
		{"idempotent", "PUT", retryRules{attempts: 3, buffer: 10}, false, true},
		{"not idempotent", "POST", retryRules{attempts: 3, buffer: 10}, false, false},
		{"not idempotent, but an endpoint may refuse it", "POST", retryRules{attempts: 3, buffer: 10}, true, true},
		{"any", "POST", retryRules{attempts: 3, buffer: 10, any: true}, false, true},
		{"one attempt", "PUT", retryRules{attempts: 1, buffer: 10}, true, false},
	} {
		defaultMemory()
		h := &callHandler{callRules: callRules{retry: test.rules, hasQuotas: test.quotas}}
		r, err := http.NewRequest(test.method, "http://api.test/", strings.NewReader("0123"))
		if err != nil {
			t.Fatal(err)
		}
		rec := h.record(r)
		if !rec.replayable() {
			t.Errorf("%s: cannot be sent again before anything was sent", test.name)
		}
		readAll(t, openOne(rec, t), "0123", nil)
		if kept := len(recorded(rec)) > 0; kept != test.keeps {
			t.Errorf("%s: keeps it: %v", test.name, kept)
		}
	}
	for _, body := range []io.ReadCloser{nil, http.NoBody} {
		if rec := new(callHandler).record(&http.Request{Body: body}); rec != nil {
			t.Error("a record of no body")
		}
	}
}

func TestReplayOfABrokenBody(t *testing.T) {
	broken := errors.New("client hung up")
	rec := recordOf(t, io.MultiReader(strings.NewReader("0123"), iotest.ErrReader(broken)), -1, 10)
	readAll(t, openOne(rec, t), "0123", broken)
	if rec.replayable() || !rec.broken() {
		t.Errorf("replayable %v, broken %v", rec.replayable(), rec.broken())
	}
	readAll(t, openOne(rec, t), "0123", broken)
}

// TestFinalAttemptKeepsNothing lets the last attempt read on without growing the
// record.
func TestFinalAttemptKeepsNothing(t *testing.T) {
	rec := recordOf(t, strings.NewReader("0123456789"), -1, 100)
	one := openOne(rec, t)
	readSome(t, one, 3, "012")
	one.Close()
	two := openOne(rec, t)
	rec.finish()
	readAll(t, two, "0123456789", nil)
	if got := len(recorded(rec)); got > 3 {
		t.Errorf("%d bytes are kept", got)
	}
	two.Close()
	if rec.pieces != nil {
		t.Error("the record is kept when nobody needs it")
	}
}

// pipeReader gives what is written to it, piece by piece.
type pipeReader chan string

func (r pipeReader) Read(p []byte) (int, error) {
	s, ok := <-r
	if !ok {
		return 0, io.EOF
	}
	return copy(p, s), nil
}

// TestOldReaderAtTheSource cuts off an attempt that is waiting for the client,
// as a transport does that goes on reading when its round trip is over: what it
// reads then belongs to the next attempt.
func TestOldReaderAtTheSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := make(pipeReader)
		rec := recordOf(t, source, -1, 100)
		one := openOne(rec, t)
		var wg sync.WaitGroup
		wg.Go(func() { readAll(t, one, "abc", errReplaced) })
		source <- "abc"
		synctest.Wait() // the reader waits for more
		one.Close()
		two := openOne(rec, t)
		wg.Go(func() { readAll(t, two, "abcdefghi", nil) })
		synctest.Wait()
		if waited := two.waiting.Load(); waited == 0 {
			t.Error("waiting for the client counts as the endpoint's time")
		}
		time.Sleep(time.Second)
		source <- "def"
		source <- "ghi"
		close(source)
		wg.Wait()
		if waited := time.Duration(two.waited.Load()); waited < time.Second {
			t.Errorf("the client kept the attempt waiting for %v", waited)
		}
		two.Close()
		rec.finish()
	})
}

// TestWaiterIsCutOff cuts off an attempt that waits for another one's read.
func TestWaiterIsCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := make(pipeReader)
		rec := recordOf(t, source, -1, 100)
		one, two := openOne(rec, t), openOne(rec, t)
		var wg sync.WaitGroup
		wg.Go(func() { readAll(t, one, "x", nil) })
		synctest.Wait()
		wg.Go(func() { readAll(t, two, "", errReplaced) })
		synctest.Wait()
		two.Close()
		synctest.Wait()
		source <- "x"
		close(source)
		wg.Wait()
	})
}

// TestSourcePanics wants a panic of the client's body to leave nobody waiting.
func TestSourcePanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan bool)
		rec := recordOf(t, readerFunc(func([]byte) (int, error) { <-gate; panic("a bug") }), -1, 100)
		one, two := openOne(rec, t), openOne(rec, t)
		var wg sync.WaitGroup
		wg.Go(func() {
			readAll(t, one, "", errSourcePanicked)
		})
		synctest.Wait()
		wg.Go(func() { readAll(t, two, "", errSourcePanicked) })
		synctest.Wait()
		close(gate)
		wg.Wait()
		if rec.replayable() || !rec.broken() {
			t.Errorf("replayable %v, broken %v", rec.replayable(), rec.broken())
		}
		one.Close()
		two.Close()
	})
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// TestReplaysAtRandom lets attempts read and be cut off at random, side by side
// with the reads of their predecessors: the last one gets the whole body.
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
			r, upTo := openOne(rec, t), rng.IntN(len(text)+1)
			begun := make(chan bool)
			wg.Go(func() {
				close(begun)
				_, _ = io.ReadFull(r, make([]byte, upTo))
			})
			<-begun
			r.Close()
		}
		last := openOne(rec, t)
		got, err := io.ReadAll(last)
		if err != nil || !bytes.Equal(got, text) {
			t.Fatalf("seed %d: got %d of %d bytes, %v", seed, len(got), len(text), err)
		}
		wg.Wait()
		rec.finish()
		last.Close()
		if rec.open != 0 || rec.pieces != nil {
			t.Fatalf("seed %d: %d open", seed, rec.open)
		}
	}
}

// trailed is a body that brings its request's trailers at its end, as Caddy's do.
type trailed struct {
	io.Reader
	trailer http.Header
}

func (b trailed) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if err == io.EOF {
		clear(b.trailer)
		b.trailer["X-Sum"] = []string{"42"}
	}
	return n, err
}

func (trailed) Close() error { return nil }

// TestTrailersOfTwoAttempts lets an attempt that was given up read the end of the
// body while the next one looks at its trailers. Each gets them with its own end of
// the body, also when its request is sent once more.
func TestTrailersOfTwoAttempts(t *testing.T) {
	h := &callHandler{poolHandler: poolHandler{pool: new(pool)}, callRules: callRules{retry: retryRules{attempts: 3, any: true, buffer: 100}}}
	r, err := http.NewRequest("PUT", "http://api.test/", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Trailer = http.Header{"X-Sum": nil}
	r.Body, r.ContentLength = trailed{strings.NewReader("a body"), r.Trailer}, -1
	c := h.callFor(r, nil)
	attempt := func() *http.Request {
		a := c.newAttempt(&target{name: "e"}, nil, time.Now())
		a.begin(t.Context(), time.Now(), 0)
		out, unfit := a.prepare(r.WithContext(t.Context()))
		if unfit != nil {
			t.Fatal(unfit)
		}
		return out
	}
	first := attempt()
	read := make(chan error)
	go func() {
		_, err := io.Copy(io.Discard, first.Body)
		read <- err
	}()
	second := attempt()
	for field := range second.Trailer {
		if field != "X-Sum" {
			t.Errorf("the trailer %s is announced", field)
		}
	}
	if err := <-read; err != nil {
		t.Fatal(err)
	}
	if len(second.Trailer["X-Sum"]) > 0 {
		t.Error("the second has its trailers before the end of its body")
	}
	again, err := second.GetBody()
	if err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(again); err != nil || string(text) != "a body" {
		t.Errorf("got %q, %v", text, err)
	}
	for _, out := range []*http.Request{first, second} {
		if got := out.Trailer.Get("X-Sum"); got != "42" || len(out.Trailer) != 1 {
			t.Errorf("got the trailers %v", out.Trailer)
		}
	}
}
