package dialect_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// BenchmarkExamine measures the search for errors in a good response that is no stream, read 4 KiB at a time.
func BenchmarkExamine(b *testing.B) {
	for _, size := range []int{2 << 10, 16 << 10, 64 << 10} {
		body := []byte(`{"id":"x","choices":[{"message":{"content":"` + strings.Repeat("word ", size/5) + `"}}],"usage":{}}`)
		for _, name := range []string{"openai", "anthropic"} {
			r := rules(b, name)
			h := http.Header{"Content-Type": {asJSON}}
			b.Run(fmt.Sprint(name, "/", size>>10, "KiB"), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					_, e := r.Examine(200, h)
					for i := 0; i < len(body); i += 4096 {
						if e.Add(body[i:min(i+4096, len(body))]) {
							break
						}
					}
					e.End()
				}
			})
		}
	}
}
