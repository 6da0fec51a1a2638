package ops

import (
	"net/http"
	"slices"
	"strconv"

	"github.com/apifailover/caddy-failover/internal/incident"
	"github.com/apifailover/caddy-failover/internal/pool"
)

// incidents answers with the remembered outages, oldest first.
func (a *AdminAPI) incidents(w http.ResponseWriter, r *http.Request) error {
	if done, err := allow(w, r, http.MethodGet); done {
		return err
	}
	query, err := parameters(r, "pool", "limit")
	if err != nil {
		return err
	}
	limit := incident.Kept
	if query.Has("limit") {
		if limit, err = strconv.Atoi(query.Get("limit")); err != nil || limit < 1 || limit > incident.Kept {
			return apiError(http.StatusBadRequest, "limit: want a number from 1 to %d, not %q", incident.Kept, query.Get("limit"))
		}
	}
	name := query.Get("pool")
	if query.Has("pool") && pool.Find(name) == nil {
		return unknownPool(name)
	}
	all := []incident.Incident{}
	for _, p := range pool.Running() {
		if !query.Has("pool") || p.Name == name {
			all = append(all, p.Incidents.Incidents()...)
		}
	}
	slices.SortStableFunc(all, func(a, b incident.Incident) int { return a.Start.Compare(b.Start) })
	return writeJSON(w, all[max(0, len(all)-limit):])
}
