// Package ops serves the admin API, the metrics and the dashboard.
package ops

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/apifailover/caddy-failover/internal/api"
	"github.com/apifailover/caddy-failover/internal/pool"
)

func init() { caddy.RegisterModule(new(AdminAPI)) }

// AdminAPI shows and steers pools through Caddy's admin endpoint, which also controls
// access:
//
//	GET   /failover/pools
//	GET   /failover/pools/{pool}
//	GET   /failover/pools/{pool}/endpoints/{endpoint}
//	PATCH /failover/pools/{pool}/endpoints/{endpoint}
//	POST  /failover/pools/{pool}/endpoints/{endpoint}/{drain|enable|trip|reset}
//	GET   /failover/events
//	GET   /failover/incidents
//	GET   /failover/fleet
//	GET   /failover/report
//
// It exists even if no pool is configured. See docs/api.md.
type AdminAPI struct {
	ctx      caddy.Context
	replaced <-chan struct{} // closed when another configuration's admin endpoint takes over
}

// CaddyModule implements caddy.Module.
func (*AdminAPI) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "admin.api.failover",
		New: func() caddy.Module { return new(AdminAPI) },
	}
}

// adminEndpoint is the configuration of the latest admin endpoint. The end of its context
// is not the end of the endpoint: a configuration that failed to load keeps its admin
// endpoint, although its context has ended.
var adminEndpoint struct {
	sync.Mutex
	ctx      caddy.Context
	replaced chan struct{}
}

// Provision implements caddy.Provisioner.
func (a *AdminAPI) Provision(ctx caddy.Context) error {
	adminEndpoint.Lock()
	defer adminEndpoint.Unlock()
	if adminEndpoint.replaced == nil || adminEndpoint.ctx.Context != ctx.Context {
		if adminEndpoint.replaced != nil {
			close(adminEndpoint.replaced)
		}
		adminEndpoint.ctx, adminEndpoint.replaced = ctx, make(chan struct{})
	}
	a.ctx, a.replaced = ctx, adminEndpoint.replaced
	return nil
}

// Routes implements caddy.AdminRouter.
func (a *AdminAPI) Routes() []caddy.AdminRoute {
	return []caddy.AdminRoute{
		{Pattern: api.Root, Handler: caddy.AdminHandlerFunc(a.unknown)},
		{Pattern: api.Root + "pools", Handler: caddy.AdminHandlerFunc(a.pools)},
		{Pattern: api.Root + "pools/", Handler: caddy.AdminHandlerFunc(a.pool)},
		{Pattern: api.Root + "incidents", Handler: caddy.AdminHandlerFunc(a.incidents)},
		{Pattern: api.Root + "events", Handler: caddy.AdminHandlerFunc(a.events)},
		{Pattern: api.Root + "fleet", Handler: caddy.AdminHandlerFunc(a.fleet)},
		{Pattern: api.Root + "report", Handler: caddy.AdminHandlerFunc(a.report)},
	}
}

func (a *AdminAPI) unknown(_ http.ResponseWriter, r *http.Request) error {
	return apiError(http.StatusNotFound, "nothing at %s; there are %spools, %sevents, %sincidents, %sfleet and %sreport",
		r.URL.Path, api.Root, api.Root, api.Root, api.Root, api.Root)
}

// pools answers with the status of all pools.
func (a *AdminAPI) pools(w http.ResponseWriter, r *http.Request) error {
	if done, err := allow(w, r, http.MethodGet); done {
		return err
	}
	return a.answer(w, r, func() (any, error) { return pool.Status(time.Now()), nil })
}

// pool answers requests for a pool and its endpoints.
func (a *AdminAPI) pool(w http.ResponseWriter, r *http.Request) error {
	segments, err := pathSegments(r, api.Root+"pools/")
	if err != nil {
		return err
	}
	var action string
	switch n := len(segments); {
	case n == 1 && segments[0] == "":
		return a.pools(w, r)
	case n == 1:
	case n == 3 && segments[1] == "endpoints":
	case n == 4 && segments[1] == "endpoints":
		action = segments[3]
		if !slices.Contains(api.Actions, action) {
			return apiError(http.StatusNotFound, "unknown action %q; there are %s", action, api.ListNames(api.Actions))
		}
	default:
		return a.unknown(w, r)
	}
	known := []string{}
	if action == "" && r.Method != http.MethodPatch {
		known = append(known, api.Every)
	}
	if _, err := parameters(r, known...); err != nil {
		return err
	}
	p := pool.Find(segments[0])
	if p == nil {
		return unknownPool(segments[0])
	}
	switch len(segments) {
	case 1:
		if done, err := allow(w, r, http.MethodGet); done {
			return err
		}
		return a.answer(w, r, func() (any, error) { return poolStatus(segments[0]) })
	case 3:
		if done, err := allow(w, r, http.MethodGet, http.MethodPatch); done {
			return err
		}
		if r.Method == http.MethodPatch {
			return order(w, r, p, segments[2], api.Set)
		}
		return a.answer(w, r, func() (any, error) { return endpointStatus(segments[0], segments[2]) })
	}
	if done, err := allow(w, r, http.MethodPost); done {
		return err
	}
	return order(w, r, p, segments[2], action)
}

// poolStatus returns the status of a pool.
func poolStatus(name string) (any, error) {
	p := pool.Find(name)
	if p == nil {
		return nil, unknownPool(name)
	}
	return p.Status(time.Now()), nil
}

// endpointStatus returns the status of an endpoint.
func endpointStatus(poolName, name string) (any, error) {
	p := pool.Find(poolName)
	if p == nil {
		return nil, unknownPool(poolName)
	}
	status := p.Status(time.Now())
	names := make([]string, 0, len(status.Endpoints))
	for _, e := range status.Endpoints {
		if e.Name == name {
			return e, nil
		}
		names = append(names, e.Name)
	}
	err := &pool.UnknownEndpointError{Pool: p.Name, Endpoint: name, Names: names}
	return nil, caddy.APIError{HTTPStatus: http.StatusNotFound, Err: err}
}

// order carries out an order and answers with its result.
func order(w http.ResponseWriter, r *http.Request, p *pool.Pool, endpoint, action string) error {
	c, err := readOrder(w, r, action)
	if err != nil {
		return err
	}
	answer, err := operate(p, endpoint, c, time.Now())
	if err != nil {
		return err
	}
	return writeJSON(w, answer)
}

// operate carries out an order. Its errors have a status.
func operate(p *pool.Pool, endpoint string, o api.Order, now time.Time) (api.OperatorAnswer, error) {
	answer, err := p.Operate(endpoint, o, now)
	if _, ok := errors.AsType[*pool.UnknownEndpointError](err); ok {
		return answer, caddy.APIError{HTTPStatus: http.StatusNotFound, Err: err}
	}
	if errors.Is(err, pool.ErrNoFleet) {
		return answer, caddy.APIError{HTTPStatus: http.StatusConflict, Err: err}
	}
	return answer, err
}

// pathSegments returns the decoded segments of the path after a prefix; an escaped slash
// is part of a name. It refuses dot segments, since Caddy's access control reads the decoded
// path and would see another one.
func pathSegments(r *http.Request, prefix string) ([]string, error) {
	segments := strings.Split(strings.TrimPrefix(r.URL.EscapedPath(), prefix), "/")
	for i, escaped := range segments {
		name, err := url.PathUnescape(escaped)
		if err != nil {
			return nil, apiError(http.StatusBadRequest, "path: %v", err)
		}
		for part := range strings.SplitSeq(name, "/") {
			if part == "." || part == ".." {
				return nil, apiError(http.StatusBadRequest, "path: %q has a dot segment", name)
			}
		}
		segments[i] = name
	}
	return segments, nil
}

// allow answers OPTIONS, and returns an error for methods other than the given ones; then
// done is true. GET includes HEAD.
func allow(w http.ResponseWriter, r *http.Request, methods ...string) (done bool, err error) {
	if slices.Contains(methods, http.MethodGet) {
		methods = append(methods, http.MethodHead)
	}
	if slices.Contains(methods, r.Method) {
		return false, nil
	}
	w.Header().Set("Allow", strings.Join(append(methods, http.MethodOptions), ", "))
	if r.Method == http.MethodOptions {
		w.WriteHeader(http.StatusNoContent)
		return true, nil
	}
	return true, apiError(http.StatusMethodNotAllowed, "method %s is not allowed here; allowed are %s", r.Method, strings.Join(methods, ", "))
}

// parameters returns the query's parameters. It refuses unknown and repeated ones.
func parameters(r *http.Request, known ...string) (url.Values, error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, apiError(http.StatusBadRequest, "query: %v", err)
	}
	for name, values := range query {
		if !slices.Contains(known, name) {
			return nil, apiError(http.StatusBadRequest, "unknown parameter %q; known are %s", name, api.ListNames(known))
		}
		if len(values) > 1 {
			return nil, apiError(http.StatusBadRequest, "%s: given %d times", name, len(values))
		}
	}
	return query, nil
}

// parseMoment reads an RFC 3339 time, a date (its start in UTC), or a duration before now.
func parseMoment(text string, now time.Time) (time.Time, error) {
	for _, layout := range []string{time.RFC3339Nano, time.DateOnly} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	if d, err := caddy.ParseDuration(text); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	return time.Time{}, fmt.Errorf("%q is not an RFC 3339 time, a date (2006-01-02) or a duration before now (24h, 7d)", text)
}

// writeJSON answers with a value as JSON.
func writeJSON(w http.ResponseWriter, value any) error {
	body, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("encoding the response: %w", err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(append(body, '\n')) // an error means that the client left
	return nil
}

func apiError(status int, format string, args ...any) error {
	return caddy.APIError{HTTPStatus: status, Err: fmt.Errorf(format, args...)}
}

func unknownPool(name string) error {
	var names []string
	for _, p := range pool.Running() {
		names = append(names, p.Name)
	}
	return apiError(http.StatusNotFound, "there is no pool %q; there are %s", name, api.ListNames(names))
}

var (
	_ caddy.Provisioner = (*AdminAPI)(nil)
	_ caddy.AdminRouter = (*AdminAPI)(nil)
)
