package ops

import (
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/apifailover/caddy-failover/internal/api"
)

// Bounds and default of the time between two messages of a stream of statuses.
const (
	leastEvery   = 100 * time.Millisecond
	mostEvery    = time.Hour
	defaultEvery = time.Second
)

// answer answers a GET with what read returns, or with a stream of it if the client accepts
// text/event-stream: a message at once and then one each `every`, until read has an error.
func (a *AdminAPI) answer(w http.ResponseWriter, r *http.Request, read func() (any, error)) error {
	query, err := parameters(r, api.Every)
	if err != nil {
		return err
	}
	value, err := read()
	if err != nil {
		return err
	}
	if r.Method != http.MethodGet || !acceptsStream(r) {
		if query.Has(api.Every) {
			return apiError(http.StatusBadRequest, "%s: only a stream has it (Accept: text/event-stream)", api.Every)
		}
		return writeJSON(w, value)
	}
	every := defaultEvery
	if text := query.Get(api.Every); query.Has(api.Every) {
		if every, err = caddy.ParseDuration(text); err != nil || every < leastEvery || every > mostEvery {
			return apiError(http.StatusBadRequest, "%s: want a duration from %v to %v, not %q", api.Every, leastEvery, mostEvery, text)
		}
	}
	a.repeat(w, r, every, value, read)
	return nil
}

// repeat sends a stream of values. It ends with the configuration.
func (a *AdminAPI) repeat(w http.ResponseWriter, r *http.Request, every time.Duration, value any, read func() (any, error)) {
	out := newEventStream(w)
	out.begin()
	out.send("", 0, value)
	out.flush()
	over := a.ctx.Done()
	if a.ctx.Err() != nil {
		over = nil // the configuration failed to load; its admin endpoint stays
	}
	next, pulse := time.NewTicker(every), time.NewTicker(streamPulse)
	defer next.Stop()
	defer pulse.Stop()
	for out.err == nil {
		select {
		case <-next.C:
			value, err := read()
			if err != nil {
				return
			}
			out.send("", 0, value)
		case <-pulse.C:
			out.pulse(0)
		case <-r.Context().Done():
			return
		case <-over:
			return
		case <-a.replaced:
			return
		}
		out.flush()
	}
}
