package call

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// wrapped is a body with the layout of reverseproxy.requestBodyWithTrailers.
type wrapped struct {
	io.ReadCloser
	original *http.Request
}

func TestOriginOf(t *testing.T) {
	r := new(http.Request)
	body := io.NopCloser(strings.NewReader("x"))
	for _, test := range []struct {
		body io.ReadCloser
		want *http.Request
	}{
		{nil, nil}, {http.NoBody, nil}, {body, nil}, {new(closing), nil},
		{&wrapped{body, nil}, nil}, {&wrapped{body, r}, r},
		{&struct {
			io.ReadCloser
			read int
		}{&wrapped{body, r}, 0}, r},
	} {
		if got := originOf(test.body); got != test.want {
			t.Errorf("%T: %p, want %p", test.body, got, test.want)
		}
	}
}

func BenchmarkOriginOf(b *testing.B) {
	body := &struct {
		io.ReadCloser
		read int
	}{&wrapped{nil, new(http.Request)}, 0}
	b.ReportAllocs()
	for b.Loop() {
		if originOf(body) == nil {
			b.Fatal("not found")
		}
	}
}
