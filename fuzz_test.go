package failover

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/apifailover/caddy-failover/internal/outcome"
)

// fedBody is a client's body whose reads are as long as splits says, and which has
// trailers at its end.
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

// FuzzReplay: wherever attempts are given up, and however the client's reads are split, each
// attempt that reads on gets just the client's bytes, and at their end its trailers without
// credentials; or an error, never less without one.
func FuzzReplay(f *testing.F) {
	f.Add([]byte("a body that is sent again"), []byte{3, 64, 0, 70}, uint16(5), uint16(9), int16(100), true)
	f.Add([]byte("a body that is too long to be kept"), []byte{200, 1}, uint16(0), uint16(12), int16(8), false)
	f.Add([]byte{}, []byte{0}, uint16(1), uint16(1), int16(0), true)
	f.Fuzz(func(t *testing.T, text, splits []byte, readFirst, readSecond uint16, limit int16, strips bool) {
		options := recordingOptions{limit: int64(max(0, limit))}
		if strips {
			options.strip = []string{"Authorization"}
		}
		r, err := http.NewRequestWithContext(t.Context(), "PUT", "http://api.test/", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Trailer = http.Header{"X-Sum": nil, "Authorization": nil}
		r.Body = &fedBody{text: text, splits: splits, trailer: r.Trailer, sent: http.Header{"X-Sum": {"42"}, "Authorization": {"secret"}}}
		r.ContentLength = -1
		rec := newRecording(r, options)
		for _, most := range []int{int(readFirst), int(readSecond), len(text) + 1} {
			out := r.WithContext(t.Context())
			rec.send(out, time.Now())
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
			case err != nil && rec.replayable():
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

// FuzzDecoded: of an answer there is never more to look at than bodyLooks, what is not
// packed is looked at as it is, and what is packed as it was.
func FuzzDecoded(f *testing.F) {
	f.Add([]byte("plain"), uint16(1), uint16(9))
	f.Add([]byte{0x1f, 0x8b, 8, 0}, uint16(1), uint16(0))
	f.Add([]byte("bomb"), uint16(60000), uint16(65535))
	f.Fuzz(func(t *testing.T, body []byte, times, cut uint16) {
		resp := &http.Response{Header: http.Header{}}
		if got := decoded(resp, body); !bytes.Equal(got, body) {
			t.Fatalf("%q became %q", body, got)
		}
		resp.Header.Set("Content-Encoding", "gzip")
		if got := decoded(resp, body); len(got) > max(bodyLooks, len(body)) {
			t.Fatalf("%d bytes of %d", len(got), len(body))
		}
		plain := bytes.Repeat(body, int(times)%(4*bodyLooks/max(1, len(body))+2))
		var packed bytes.Buffer
		w := gzip.NewWriter(&packed)
		if _, err := w.Write(plain); err != nil || w.Close() != nil {
			t.Fatal(err)
		}
		want := plain[:min(len(plain), bodyLooks)]
		if got := decoded(resp, packed.Bytes()); !bytes.Equal(got, want) {
			t.Fatalf("%d bytes became %d", len(plain), len(got))
		}
		const header = 10
		if at := min(int(cut), packed.Len()); at >= header {
			if got := decoded(resp, packed.Bytes()[:at]); !bytes.HasPrefix(want, got) {
				t.Fatalf("cut off at %d: %q of %q", at, got, want)
			}
		}
	})
}

// FuzzErrorEvent: a stream that breaks goes on as it came, ends with one error event that
// stands alone whatever was before it, and then with the error; one that does not break
// stays as it is.
func FuzzErrorEvent(f *testing.F) {
	f.Add([]byte("data: {\"a\":1}\n\ndata: {\"b"), true, uint8(7))
	f.Add([]byte("event: x\r\ndata: y\r"), true, uint8(1))
	f.Add([]byte("data: [DONE]\n\n"), false, uint8(200))
	p := newTestPool("fuzz")
	f.Cleanup(p.outbox.Close)
	f.Fuzz(func(t *testing.T, text []byte, breaks bool, size uint8) {
		h := &callHandler{poolHandler: poolHandler{pool: p, generation: new(generation)}}
		cfg := defaultBreaker()
		h.generation.breaker.Store(cfg)
		c := &call{handler: h}
		a := &attempt{client: t.Context(), began: time.Now(), call: c, target: &target{name: "e", state: &endpointState{owner: p}}}
		if !a.target.state.acquire(a, a.began, cfg, 0, admitNormally) {
			t.Fatal("the endpoint is not well")
		}
		a.begin(t.Context(), a.began, 0)
		end := io.EOF
		if breaks {
			end = io.ErrUnexpectedEOF
		}
		a.answer = io.NopCloser(&endingIn{bytes.NewReader(text), end})
		body := &sseBody{responseBody: (*responseBody)(a)}
		var got []byte
		var err error
		for buffer := make([]byte, int(size)+1); err == nil; {
			var n int
			n, err = body.Read(buffer)
			got = append(got, buffer[:n]...)
		}
		rest, ok := bytes.CutPrefix(got, text)
		if !ok {
			t.Fatalf("%q became %q", text, got)
		}
		if !breaks {
			if err != io.EOF || len(rest) > 0 {
				t.Fatalf("%q became %q, %v", text, got, err)
			}
			return
		}
		if _, ok := err.(*brokenBody); !ok {
			t.Fatalf("it ends with %v", err)
		}
		event, ok := strings.CutPrefix(string(rest), "\n\nevent: error\ndata: ")
		data, ok2 := strings.CutSuffix(event, "\n\n")
		var answer struct {
			Type  string
			Error struct{ Type, Code, Message string }
		}
		if !ok || !ok2 || strings.Contains(data, "\n") || json.Unmarshal([]byte(data), &answer) != nil ||
			answer.Type != "error" || answer.Error.Code != outcome.Truncated.String() || answer.Error.Message == "" {
			t.Fatalf("the event is %q", rest)
		}
	})
}

// endingIn is a reader that ends with an error of its own.
type endingIn struct {
	r   io.Reader
	err error
}

func (e *endingIn) Read(p []byte) (int, error) {
	n, err := e.r.Read(p)
	if err == io.EOF {
		err = e.err
	}
	return n, err
}
