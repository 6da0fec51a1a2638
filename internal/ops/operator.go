package ops

import (
	"errors"
	"io"
	"net/http"

	"github.com/caddyserver/caddy/v2"

	"github.com/apifailover/caddy-failover/internal/api"
)

// maxOrder is the maximum size of an order's body, in bytes.
const maxOrder = 16 << 10

// readOrder reads the body of an order: a JSON object, which may be empty if the action
// requires no field. Errors name the field.
func readOrder(w http.ResponseWriter, r *http.Request, action string) (api.Order, error) {
	c := api.Order{Action: action}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxOrder))
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
