package failover

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
)

const second = time.Second

func TestHealthConfig(t *testing.T) {
	pool := &Health{URI: "/up?full=1", Method: "GET", Interval: caddy.Duration(second)}
	for _, tt := range []struct {
		name string
		pool *Health
		own  *EndpointHealth
		want string
	}{
		{"none", nil, nil, "off"},
		{"the pool's", pool, nil, "GET /up?full=1 1s 1s 200 399"},
		{"off in the pool", &Health{Off: true}, nil, "off"},
		{"off at the endpoint", pool, &EndpointHealth{Off: true}, "off"},
		{"the endpoint's", pool, &EndpointHealth{Method: "POST", URI: "/models"}, "POST /models? 1s 1s 200 399"},
		{"the endpoint's alone", nil, &EndpointHealth{Method: "GET", URI: "/models"}, "GET /models? 30s 2s 200 399"},
		{"the endpoint's, off in the pool", &Health{Off: true}, &EndpointHealth{Method: "GET", URI: "/m"}, "GET /m? 30s 2s 200 399"},
		{"the base URL", &Health{}, nil, "HEAD ? 30s 2s 100 499"},
		{"statuses", &Health{ExpectStatus: []string{"204"}}, nil, "HEAD ? 30s 2s 204 204"},
	} {
		got := "off"
		if cfg := tt.pool.checkConfig(tt.own.override()); cfg != nil {
			first, last := 0, 0
			for code := range 600 {
				if cfg.Expect.Has(code) {
					if first == 0 {
						first = code
					}
					last = code
				}
			}
			got = fmt.Sprintf("%s %s?%s %v %v %d %d", cfg.Method, cfg.Path, cfg.Query, cfg.Interval, cfg.FastInterval, first, last)
		}
		if got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
	if cfg := (&Health{}).checkConfig(nil); cfg.Expect.Has(http.StatusTooManyRequests) {
		t.Error("429 passes")
	}
}
