package call

import (
	"net/http"

	"github.com/apifailover/caddy-failover/internal/pool"
	"github.com/apifailover/caddy-failover/internal/target"
)

// model returns the model that the call names; empty if it names none, or if no endpoint has its
// own names of models.
func (c *Call) model() string {
	if c.extras == nil {
		return ""
	}
	return c.extras.model
}

// takes reports whether a target has the call's model.
func (c *Call) takes(t *target.Target) bool {
	return t.Models == nil || t.Models.Takes(c.model())
}

// noModel returns the error for a call whose model no endpoint has; nil: some endpoint has it.
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
