package replay

import (
	"sync/atomic"
	"time"
)

// waits are how long an attempt has waited for its client's body. Once it is in use, any
// goroutine may ask.
type waits struct {
	began   time.Time    // the attempt; it does not change
	past    atomic.Int64 // nanoseconds of the waits that are over
	current atomic.Int64 // since when the attempt waits, nanoseconds after it began plus one; 0: it does not
}
