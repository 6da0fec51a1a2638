package ops

import (
	"errors"
	"io"
	"net/http"

	"github.com/caddyserver/caddy/v2"

	"github.com/apifailover/caddy-failover/internal/api"
)

const MaxCommand = 16 << 10 // bytes of a command's body

// readCommand reads the body of a command: a JSON object, which may be left out
// where nothing in it is required. Its errors name the field.
func readCommand(w http.ResponseWriter, r *http.Request, action string) (api.Order, error) {
	c := api.Order{Action: action}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxCommand))
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return c, apiError(http.StatusRequestEntityTooLarge, "body: more than %d bytes", tooLarge.Limit)
	}
	if err != nil {
		return c, apiError(http.StatusBadRequest, "body: %v", err)
	}
	if len(body) > 0 {
		if err := c.ReadFields(body); err != nil {
			return c, caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: err}
		}
	}
	if err := c.Validate(); err != nil {
		return c, caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: err}
	}
	return c, nil
}
