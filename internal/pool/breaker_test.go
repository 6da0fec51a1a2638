package pool

import (
	"time"

	"github.com/apifailover/caddy-failover/internal/breaker"
)

// defaultBreaker is what breakers run by unless told otherwise, with attempts of
// at most 2 s.
func defaultBreaker(change ...func(*breaker.Config)) *breaker.Config {
	cfg := breaker.Defaults(2 * time.Second)
	for _, f := range change {
		f(&cfg)
	}
	return &cfg
}
