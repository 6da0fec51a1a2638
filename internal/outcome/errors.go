package outcome

import (
	"context"
	"fmt"
	"net"
	"time"
)

// ErrClientGone ends a call whose client left; the proxy answers it with 499.
var ErrClientGone = fmt.Errorf("client went away: %w", context.Canceled)

// TimeoutError is the error of an attempt that got no answer in time. Unlike a context's error it
// is a net.Error with a timeout, which the proxy answers with 504.
type TimeoutError struct {
	Endpoint string
	After    time.Duration
}

// Error implements error.
func (e *TimeoutError) Error() string {
	return fmt.Sprintf("endpoint %s: no response within %v", e.Endpoint, e.After.Round(time.Millisecond))
}

// Timeout implements net.Error.
func (e *TimeoutError) Timeout() bool { return true }

// Temporary implements net.Error.
func (e *TimeoutError) Temporary() bool { return true }

var _ net.Error = (*TimeoutError)(nil)

// BodyError is an error of reading a response body.
type BodyError struct{ Cause error }

// Error implements error.
func (e *BodyError) Error() string { return e.Cause.Error() }

// Unwrap returns the cause.
func (e *BodyError) Unwrap() error { return e.Cause }
