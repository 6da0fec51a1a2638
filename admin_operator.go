package failover

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/apifailover/caddy-failover/internal/jsondoc"
)

const (
	maxCommand = 16 << 10 // bytes of a command's body
	maxReason  = 500      // bytes of an operator's reason
	maxLasts   = 366 * 24 * time.Hour
)

// operatorActions are what can be posted to an endpoint.
var operatorActions = []string{orderDrain, orderEnable, orderTrip, orderReset}

// readCommand reads the body of a command: a JSON object, which may be left out
// where nothing in it is required. Its errors name the field.
func readCommand(w http.ResponseWriter, r *http.Request, action string) (command, error) {
	c := command{action: action}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxCommand))
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return c, apiError(http.StatusRequestEntityTooLarge, "body: more than %d bytes", tooLarge.Limit)
	}
	if err != nil {
		return c, apiError(http.StatusBadRequest, "body: %v", err)
	}
	if len(body) > 0 {
		if err := c.readFields(body); err != nil {
			return c, caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: err}
		}
	}
	if err := c.validate(); err != nil {
		return c, caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: err}
	}
	return c, nil
}

// readFields takes the fields of a command's body, each of which may be there once.
func (c *command) readFields(body []byte) error {
	switch err := jsondoc.Check(body, jsondoc.MaxDepth); {
	case err == jsondoc.ErrSyntax:
		var detail json.RawMessage
		return fmt.Errorf("body: want a JSON object: %w", cmp.Or(json.Unmarshal(body, &detail), err))
	case err != nil:
		return fmt.Errorf("body: want a JSON object: %w", err)
	case !jsondoc.IsObject(body):
		return fmt.Errorf("body: want a JSON object, not %s", shorten(body))
	}
	seen := make(map[string]bool)
	for name, value := range jsondoc.Members(body) {
		if seen[name] {
			return fmt.Errorf("%s: given twice", shorten([]byte(name)))
		}
		seen[name] = true
		if err := c.read(name, value); err != nil {
			return fmt.Errorf("%s: %w", shorten([]byte(name)), err)
		}
	}
	return nil
}

// read takes one field of a command's body.
func (c *command) read(name string, value json.RawMessage) error {
	switch {
	case name == "for" && c.action != orderReset:
		return readField(value, "a duration such as \"10m\"", func(text string) (err error) {
			c.lasts, err = caddy.ParseDuration(text)
			switch {
			case err != nil:
				return fmt.Errorf("want a duration such as \"10m\", not %q", text)
			case c.lasts <= 0:
				return errors.New("must be longer than 0")
			case c.lasts > maxLasts:
				return errors.New("must be at most a year; leave it out for no end")
			}
			return nil
		})
	case name == "for":
		return errors.New("a reset is done at once and lasts for no time")
	case name == "reason":
		return readField(value, "a string", func(text string) error {
			c.reason = text
			if len(text) > maxReason {
				return fmt.Errorf("must be at most %d bytes", maxReason)
			}
			return nil
		})
	case name == orderWeight && c.action == orderSet:
		return readChange(value, "a number or null", &c.weight, func(weight float64) error {
			if want := weightRange(weight); want != "" {
				return fmt.Errorf("must be %s", want)
			}
			return nil
		})
	case name == orderPriority && c.action == orderSet:
		return readChange(value, "a whole number or null", &c.priority, func(priority int) error {
			if priority < 1 {
				return errors.New("must be 1 or more")
			}
			return nil
		})
	case c.action == orderSet:
		return errors.New("unknown field; known are weight, priority, for and reason")
	}
	return errors.New("unknown field; known are for and reason")
}

// validate checks what the fields come to together.
func (c *command) validate() error {
	switch {
	case c.action != orderSet:
	case !c.weight.made && !c.priority.made:
		return errors.New("weight, priority: at least one of them is needed")
	case c.lasts > 0 && c.weight.value == nil && c.priority.value == nil:
		return errors.New("for: nothing is set that could last")
	}
	return nil
}

// readChange reads a value, or null for what is configured.
func readChange[T any](value json.RawMessage, want string, into *change[T], check func(T) error) error {
	into.made = true
	if string(value) == "null" {
		return nil
	}
	return readField(value, want, func(v T) error {
		into.value = &v
		return check(v)
	})
}

// readField decodes a value, which must not be null, and hands it to take.
func readField[T any](value json.RawMessage, want string, take func(T) error) error {
	var v T
	if string(value) == "null" {
		return fmt.Errorf("want %s, not null", want)
	}
	if err := json.Unmarshal(value, &v); err != nil {
		return fmt.Errorf("want %s, not %s", want, shorten(value))
	}
	return take(v)
}

// shorten is the beginning of a text, as error messages show it.
func shorten(text []byte) string {
	if len(text) <= 40 {
		return string(text)
	}
	return strings.ToValidUTF8(string(text[:40]), "") + "..."
}
