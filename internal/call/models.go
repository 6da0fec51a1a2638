package call

import (
	"net/http"

	"github.com/apifailover/caddy-failover/internal/pool"
	"github.com/apifailover/caddy-failover/internal/target"
)

// model is the model that the call names, where some endpoint has its own names of models;
// else, or if it names none, empty.
func (c *Call) model() string {
	if c.extras == nil {
		return ""
	}
	return c.extras.model
}

// takes tells whether a target has what the call asks for.
func (c *Call) takes(t *target.Target) bool {
	return t.Models == nil || t.Models.Takes(c.model())
}

// noModel is why no endpoint takes the call, whatever its state is; nil: some may.
func (c *Call) noModel(from *pool.Routes) *unfit {
	if c.model() == "" {
		return nil
	}
	for _, t := range from.Targets {
		if c.takes(t) {
			return nil
		}
	}
	return &unfit{http.StatusNotFound, "no endpoint of this API has the model"}
}
