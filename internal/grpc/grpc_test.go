package grpc

import (
	"encoding/base64"
	"net/http"
	"testing"
	"time"

	"github.com/apifailover/caddy-failover/internal/outcome"
)

func TestIs(t *testing.T) {
	for kind, want := range map[string]bool{
		"application/grpc": true, "application/grpc+proto": true, "Application/GRPC+json; charset=utf-8": true, "application/grpc;x=y": true,
		"application/grpc-web": false, "application/grpc-web+proto": false, "application/grpcs": false, "application/json": false, "": false,
	} {
		if got := Is(http.Header{"Content-Type": {kind}}); got != want {
			t.Errorf("%q: %t, want %t", kind, got, want)
		}
	}
	if Is(nil) {
		t.Error("a message without Content-Type is taken for gRPC")
	}
}

func TestStatus(t *testing.T) {
	for field, want := range map[string]Code{"0": OK, "14": Unavailable, "x": 2, "": 2, "-1": 2, "99": 99} {
		if got, ok := Status(http.Header{"Grpc-Status": {field}}); !ok || got != want {
			t.Errorf("%q: %v %t, want %v", field, got, ok, want)
		}
	}
	if _, ok := Status(http.Header{}); ok {
		t.Error("a response without a status has one")
	}
	if a, b := Code(16).String(), Code(99).String(); a != "UNAUTHENTICATED" || b != "code 99" {
		t.Errorf("names: %s, %s", a, b)
	}
}

func TestOutcome(t *testing.T) {
	type given struct{ began, ownCredentials bool }
	for code := range Code(18) {
		for _, g := range []given{{false, false}, {false, true}, {true, false}, {true, true}} {
			want := outcome.Success
			switch {
			case code == 14, code == 4, code == 13 && !g.began:
				want = outcome.FailedStatus
			case code == 8 && g.ownCredentials:
				want = outcome.RateLimited
			case (code == 16 || code == 7) && g.ownCredentials:
				want = outcome.Denied
			}
			if got := code.Outcome(g.began, g.ownCredentials); got != want {
				t.Errorf("%v %+v: %v, want %v", code, g, got, want)
			}
		}
	}
}

func TestDeadline(t *testing.T) {
	for field, want := range map[string]time.Duration{
		"1H": time.Hour, "2M": 2 * time.Minute, "3S": 3 * time.Second, "4m": 4 * time.Millisecond, "5u": 5 * time.Microsecond, "6n": 6,
		"99999999H": 1<<63 - 1, "0S": 0,
		"": -1, "S": -1, "3": -1, "3s": -1, "-3S": -1, "123456789S": -1, "1.5S": -1,
	} {
		got, ok := Deadline(http.Header{"Grpc-Timeout": {field}})
		if !ok {
			got = -1
		}
		if got != want {
			t.Errorf("%q: %v, want %v", field, got, want)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	info := func(delay string) string {
		value := "\x0a" + string(rune(len(delay))) + delay
		kind := "type.googleapis.com/google.rpc.RetryInfo"
		any := "\x0a" + string(rune(len(kind))) + kind + "\x12" + string(rune(len(value))) + value
		return "\x08\x08\x12\x04busy" + "\x1a\x06\x0a\x04a/bc" + "\x1a" + string(rune(len(any))) + any
	}
	encode := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	for name, test := range map[string]struct {
		h    http.Header
		want time.Duration
	}{
		"pushback":          {http.Header{pushbackField: {"1500"}}, 1500 * time.Millisecond},
		"too long":          {http.Header{pushbackField: {"2000000000"}}, outcome.MaxHold},
		"negative":          {http.Header{pushbackField: {"-1"}}, 0},
		"no number":         {http.Header{pushbackField: {"soon"}}, 0},
		"RetryInfo":         {http.Header{detailsField: {encode(info("\x08\x03\x10\x80\xca\xb5\xee\x01"))}}, 3500 * time.Millisecond},
		"without padding":   {http.Header{detailsField: {base64.RawStdEncoding.EncodeToString([]byte(info("\x08\x03")))}}, 3 * time.Second},
		"cut":               {http.Header{detailsField: {encode(info("\x08\x03")[:20])}}, 0},
		"no base64":         {http.Header{detailsField: {"???"}}, 0},
		"no RetryInfo":      {http.Header{detailsField: {encode("\x08\x08\x12\x04busy")}}, 0},
		"absurd":            {http.Header{detailsField: {encode(info("\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"))}}, 0},
		"says nothing":      {http.Header{}, 0},
		"pushback counts":   {http.Header{pushbackField: {"10"}, detailsField: {encode(info("\x08\x03"))}}, 10 * time.Millisecond},
		"one of two fields": {http.Header{detailsField: {"AA==," + encode(info("\x08\x03"))}}, 3 * time.Second},
	} {
		if got, ok := RetryAfter(test.h); got != test.want || ok != (test.want > 0) {
			t.Errorf("%s: %v %t, want %v", name, got, ok, test.want)
		}
	}
}

func TestMessages(t *testing.T) {
	body := append(append(frame([]byte("one")), frame(nil)...), frame(make([]byte, 300))...)
	for size := 1; size <= len(body); size++ {
		var m Messages
		for rest := body; len(rest) > 0; rest = rest[min(size, len(rest)):] {
			m.Add(rest[:min(size, len(rest))])
		}
		if m.Whole != 3 || !m.Some {
			t.Fatalf("in pieces of %d: %d messages", size, m.Whole)
		}
	}
	var cut Messages
	if cut.Add(frame([]byte("one"))[:6]); cut.Whole != 0 || !cut.Some {
		t.Errorf("a part of a message: %+v", cut)
	}
}

func TestCheck(t *testing.T) {
	if got := string(CheckRequest("")); got != "\x00\x00\x00\x00\x00" {
		t.Errorf("of the server: %q", got)
	}
	if got := string(CheckRequest("a.B")); got != "\x00\x00\x00\x00\x05\x0a\x03a.B" {
		t.Errorf("of a service: %q", got)
	}
	for body, want := range map[string]string{
		"\x00\x00\x00\x00\x02\x08\x01":                  "SERVING",
		"\x00\x00\x00\x00\x02\x08\x02":                  "NOT_SERVING",
		"\x00\x00\x00\x00\x02\x08\x03":                  "SERVICE_UNKNOWN",
		"\x00\x00\x00\x00\x00":                          "UNKNOWN",
		"\x00\x00\x00\x00\x09\x12\x01x\x1d....\x10\x01": "no message",
		"\x00\x00\x00\x00\x0a\x12\x01x\x1d....\x08\x01": "SERVING",
		"\x00\x00\x00\x00\x04\x08":                      "no message",
		"\x01\x00\x00\x00\x02\x08\x01":                  "compressed message",
		"":                                              "no message",
	} {
		status, err := CheckAnswer([]byte(body))
		got := status.String()
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%q: %s, want %s", body, got, want)
		}
	}
}

func FuzzWire(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x00\x02\x08\x01"))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = CheckAnswer(b)
		if wait := retryInfo(b); wait < 0 {
			t.Errorf("%v", wait)
		}
		var m Messages
		m.Add(b)
	})
}
