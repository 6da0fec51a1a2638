package outcome

import "time"

// TimeoutError is what the client's handler gets when an attempt took too
// long. Unlike a context's error it is a net.Error, from which the proxy makes
// a 504.
type TimeoutError struct {
	Endpoint string
	After    time.Duration
}

// BodyError is an error of reading a response body.
type BodyError struct{ Cause error }

// Error implements error.
func (e *BodyError) Error() string { return e.Cause.Error() }

// Unwrap returns the cause.
func (e *BodyError) Unwrap() error { return e.Cause }
