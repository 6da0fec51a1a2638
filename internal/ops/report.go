package ops

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/apifailover/caddy-failover/internal/api"
	"github.com/apifailover/caddy-failover/internal/pool"
	"github.com/apifailover/caddy-failover/internal/sla"
)

// A reportFormat is a format of reports.
type reportFormat struct {
	mediaType string
	write     func(sla.Report, io.Writer) error
}

var reportFormats = map[string]reportFormat{
	"md":   {"text/markdown; charset=utf-8", sla.Report.WriteMarkdown},
	"html": {"text/html; charset=utf-8", sla.Report.WriteHTML},
	"json": {"application/json", sla.Report.WriteJSON},
	"csv":  {"text/csv; charset=utf-8; header=present", sla.Report.WriteCSV},
}

// report answers with the SLA report of a pool.
func (a *AdminAPI) report(w http.ResponseWriter, r *http.Request) error {
	if done, err := allow(w, r, http.MethodGet); done {
		return err
	}
	return writeReport(w, r, "json")
}

// reports makes the reports of pages one at a time.
var reports sync.Mutex

// pageReport answers with a report for a reader of the page, by default as HTML.
func pageReport(w http.ResponseWriter, r *http.Request) {
	reports.Lock()
	defer reports.Unlock()
	err := writeReport(w, r, "html")
	if err == nil {
		return
	}
	status := http.StatusInternalServerError
	if e, ok := errors.AsType[caddy.APIError](err); ok {
		status = e.HTTPStatus
	}
	w.Header().Set("Cache-Control", "no-store")
	http.Error(w, api.Printable(err.Error()), status)
}

// writeReport answers with the report that a query asks for.
func writeReport(w http.ResponseWriter, r *http.Request, defaultFormat string) error {
	query, err := parameters(r, "pool", "from", "to", "format", "lang")
	if err != nil {
		return err
	}
	name := cmp.Or(query.Get("format"), defaultFormat)
	format, ok := reportFormats[name]
	if !ok {
		return apiError(http.StatusBadRequest, "format: want one of %s, not %q", api.ListNames(slices.Sorted(maps.Keys(reportFormats))), name)
	}
	language, err := sla.ParseLanguage(query.Get("lang"))
	if err != nil {
		return apiError(http.StatusBadRequest, "lang: %v", err)
	}
	p, err := reportPool(query.Get("pool"))
	if err != nil {
		return err
	}
	now := time.Now()
	to, from := now, time.Time{}
	if query.Has("to") {
		if to, err = parseMoment(query.Get("to"), now); err != nil {
			return apiError(http.StatusBadRequest, "to: %v", err)
		}
	}
	from = to.Add(-cmp.Or(p.Objective().Window, sla.DefaultWindow))
	if query.Has("from") {
		if from, err = parseMoment(query.Get("from"), now); err != nil {
			return apiError(http.StatusBadRequest, "from: %v", err)
		}
	}
	if !from.Before(to) {
		return apiError(http.StatusBadRequest, "from: must be before to")
	}
	report, warnings := p.Report(r.Context(), from, to, now)
	for _, warning := range warnings {
		w.Header().Add(api.WarningField, api.Printable(warning.Error()))
	}
	report.Language = language
	var body bytes.Buffer
	if err := format.write(report, &body); err != nil {
		return fmt.Errorf("writing the report of pool %q: %w", p.Name, err)
	}
	w.Header().Set("Content-Type", format.mediaType)
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	_, _ = w.Write(body.Bytes()) // an error means that the client left
	return nil
}

// reportPool returns the pool of a name; "" means the only one.
func reportPool(name string) (*pool.Pool, error) {
	if name != "" {
		if p := pool.Find(name); p != nil {
			return p, nil
		}
		return nil, unknownPool(name)
	}
	all := pool.Running()
	switch len(all) {
	case 0:
		return nil, unknownPool(name)
	case 1:
		return all[0], nil
	}
	var names []string
	for _, p := range all {
		names = append(names, p.Name)
	}
	return nil, apiError(http.StatusBadRequest, "pool: which one? there are %s", api.ListNames(names))
}
