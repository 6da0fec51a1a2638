package pool

import (
	"time"

	"github.com/apifailover/caddy-failover/internal/breaker"
)

// defaultBreaker returns the default settings for attempts of at most 2 s, with changes.
func defaultBreaker(change ...func(*breaker.Config)) *breaker.Config {
	cfg := breaker.Defaults(2 * time.Second)
	for _, f := range change {
		f(&cfg)
	}
	return &cfg
}
