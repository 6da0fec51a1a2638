package e2e

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// BenchmarkStreams measures responses of 4 MiB through Caddy with different values of `commit` and `idle_timeout`.
func BenchmarkStreams(b *testing.B) {
	const size = 4 << 20
	piece := []byte(strings.Repeat("x", 32<<10))
	for _, options := range []string{"commit headers", "commit headers\nidle_timeout 30s", "commit first_byte", "commit complete", "commit complete 8MiB"} {
		b.Run(strings.ReplaceAll(options, "\n", ","), func(b *testing.B) {
			one := newAPI(b, "one")
			one.behave(func(w http.ResponseWriter, _ *http.Request) {
				for range size / len(piece) {
					_, _ = w.Write(piece)
				}
			})
			p := startCaddy(b, site(options, one))
			buffer := make([]byte, 64<<10)
			b.SetBytes(size)
			b.ReportAllocs()
			for b.Loop() {
				resp, err := p.do(http.MethodGet, "/", nil)
				if err != nil {
					b.Fatal(err)
				}
				n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{resp.Body}, buffer)
				resp.Body.Close()
				if n != size || err != nil {
					b.Fatal(n, err)
				}
			}
		})
	}
}
