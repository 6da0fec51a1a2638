package call

import (
	"fmt"
	"net/http"
	"slices"

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

// noModel returns the error for a call whose model no endpoint has that gets calls; nil: some endpoint has it, or none gets
// calls of any model.
func (c *Call) noModel(from *pool.Routes) *unfit {
	if c.model() == "" {
		return nil
	}
	used := false
	for _, t := range from.Targets {
		if gets := t.GetsCalls(); gets && c.takes(t) {
			return nil
		} else {
			used = used || gets
		}
	}
	if !used {
		return nil
	}
	return &unfit{http.StatusNotFound, fmt.Sprintf("no endpoint of this API has the model %q", shownScope(c.model()))}
}

// hasOwnModel reports whether the call names a model that not every endpoint has.
func (c *Call) hasOwnModel(from *pool.Routes) bool {
	return c.model() != "" && slices.ContainsFunc(from.Targets, func(t *target.Target) bool { return !c.takes(t) })
}
