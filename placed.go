package failover

import (
	"errors"
	"fmt"
)

// A placedError is an error of provisioning that says first where its cause stands in a Caddyfile.
type placedError struct {
	at  string // file:line
	err error
}

func (e *placedError) Error() string { return e.at + ": " + e.err.Error() }

func (e *placedError) Unwrap() error { return e.err }

// placed puts a place before an error, unless it has one, or none is known.
func placed(at string, err error) error {
	if _, ok := errors.AsType[*placedError](err); ok || at == "" || err == nil {
		return err
	}
	return &placedError{at, err}
}

// wrap says of an error, by place and name, which endpoint is meant; no error stays none.
func (e *Endpoint) wrap(err error) error {
	if err == nil {
		return nil
	}
	return placed(e.DefinedAt, fmt.Errorf("endpoint %q: %w", e.called(), err))
}
