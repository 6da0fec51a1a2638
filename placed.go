package failover

import (
	"errors"
	"fmt"
)

// A placedError is an error of provisioning that begins with the place of its cause in a Caddyfile.
type placedError struct {
	at  string // file:line
	err error
}

func (e *placedError) Error() string { return e.at + ": " + e.err.Error() }

func (e *placedError) Unwrap() error { return e.err }

// placed adds a place to an error, unless the error has one or at is empty.
func placed(at string, err error) error {
	if _, ok := errors.AsType[*placedError](err); ok || at == "" || err == nil {
		return err
	}
	return &placedError{at, err}
}

// wrap adds the place and name of the endpoint to an error. It returns nil for nil.
func (e *Endpoint) wrap(err error) error {
	if err == nil {
		return nil
	}
	return placed(e.DefinedAt, fmt.Errorf("endpoint %q: %w", e.called(), err))
}
