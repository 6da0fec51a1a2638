package call

import (
	"cmp"
	"net/http"
	"strings"

	"go.uber.org/zap"

	"github.com/apifailover/caddy-failover/internal/dialect"
	"github.com/apifailover/caddy-failover/internal/target"
)

// unfit is the reason why no endpoint gets a request: its body, its path or its model. The client
// gets it as an answer.
type unfit struct {
	Status int // 400, 404, 413, 415 or 503
	reason string
}

// Error implements error.
func (u *unfit) Error() string { return u.reason }

// said returns the reason in the words of an API.
func (u *unfit) said() *dialect.Refusal {
	said := &dialect.Refusal{Status: u.Status, Type: "unsupported_media_type", Message: u.reason}
	switch u.Status {
	case http.StatusNotFound: // OpenAI's words
		said.Type, said.Code = "invalid_request_error", "model_not_found"
	case http.StatusBadRequest:
		said.Type = "bad_request"
	case http.StatusRequestEntityTooLarge:
		said.Type = "request_too_large"
	case http.StatusServiceUnavailable:
		said.Type, said.RetryAfter = "out_of_memory", 1
	}
	said.Code = cmp.Or(said.Code, said.Type)
	return said
}

// errOutside refuses a path that may lead out of an endpoint's base URL. Beside the base URL may be
// another tenant's API, which accepts the endpoint's credentials.
var errOutside = &unfit{http.StatusBadRequest, "the request's path leads out of the API: it has too many dot segments (..)"}

// warnOfPath warns, once for each handler, if the request's path begins with that of the base URL of a target
// that has responded with a 404: the endpoint got that path twice.
func (c *Call) warnOfPath(t *target.Target) {
	if t.URL == nil {
		return
	}
	base := strings.TrimRight(t.URL.Path, "/")
	if base == "" || !strings.HasPrefix(c.Request.URL.Path+"/", base+"/") || !c.Handler.doubled.CompareAndSwap(false, true) {
		return
	}
	c.Handler.Logger.Warn("a 404 may be due to the path of the base URL, which the endpoint got twice: leave it out of the base URL, or remove it from requests with handle_path",
		zap.String("pool", c.Handler.Name), zap.String("endpoint", t.Name), zap.String("request", c.Request.URL.Path), zap.String("base", base))
}
