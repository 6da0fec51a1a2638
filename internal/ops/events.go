package ops

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/apifailover/caddy-failover/internal/api"
	"github.com/apifailover/caddy-failover/internal/event"
	"github.com/apifailover/caddy-failover/internal/pool"
)

const (
	// streamPulse is the time between two signs of life in a stream.
	streamPulse = 15 * time.Second
	// streamPatience is how long a write to a stream may block.
	streamPatience = 10 * time.Second
)

// eventQuery selects events.
type eventQuery struct {
	pool  string    // "": all pools
	after uint64    // only events after this ID; 0: from the oldest known one
	from  time.Time // only events since then
	limit int       // how many of the newest
	since bool      // after or from is given
	fleet bool      // events of all instances
}

// takes reports whether the query selects an event, apart from its limit.
func (q *eventQuery) takes(e *event.Event) bool {
	return (q.pool == "" || q.pool == e.Pool) && e.ID > q.after && !e.At.Before(q.from)
}

// pick returns the selected events of list, oldest first. It ignores an ID above all of
// them, which comes from before a restart.
func (q *eventQuery) pick(list []event.Event) []event.Event {
	if len(list) > 0 && q.after > list[len(list)-1].ID {
		q.after = 0
	}
	picked := make([]event.Event, 0, min(q.limit, len(list)))
	for i := range list {
		if q.takes(&list[i]) {
			picked = append(picked, list[i])
		}
	}
	return picked[max(0, len(picked)-q.limit):]
}

// events answers with the latest events, or with a stream of events if the client
// accepts text/event-stream.
func (a *AdminAPI) events(w http.ResponseWriter, r *http.Request) error {
	if done, err := allow(w, r, http.MethodGet); done {
		return err
	}
	q, err := readEventQuery(r, time.Now())
	if err != nil {
		return err
	}
	if q.fleet {
		n := pool.FleetNode()
		if n == nil {
			return errNoFleet()
		}
		if q.after > 0 || acceptsStream(r) {
			return apiError(http.StatusBadRequest, "where: the fleet's events are no stream, and since must be a time, because each instance has its own IDs")
		}
		return writeJSON(w, q.pick(fleetEvents(n)))
	}
	if r.Method == http.MethodGet && acceptsStream(r) {
		return a.stream(w, r, q)
	}
	return writeJSON(w, q.pick(event.Latest.Since(q.after)))
}

func readEventQuery(r *http.Request, now time.Time) (*eventQuery, error) {
	query, err := parameters(r, "pool", "since", "limit", "where")
	if err != nil {
		return nil, err
	}
	q := &eventQuery{pool: query.Get("pool"), limit: event.Kept}
	if query.Has("limit") {
		q.limit, err = strconv.Atoi(query.Get("limit"))
		if err != nil || q.limit < 1 || q.limit > event.Kept {
			return nil, apiError(http.StatusBadRequest, "limit: want a number from 1 to %d, not %q", event.Kept, query.Get("limit"))
		}
	}
	switch where := query.Get("where"); where {
	case api.InFleet:
		q.fleet = true
	case "", api.Here:
	default:
		return nil, apiError(http.StatusBadRequest, "where: want fleet or here, not %q", where)
	}
	if query.Has("pool") && !q.fleet && pool.Find(q.pool) == nil && !slices.ContainsFunc(event.Latest.Since(0), func(e event.Event) bool { return e.Pool == q.pool }) {
		return nil, unknownPool(q.pool)
	}
	if query.Has("since") {
		text := query.Get("since")
		q.since = true
		if q.after, err = strconv.ParseUint(text, 10, 64); err != nil {
			q.after = 0
			if q.from, err = parseMoment(text, now); err != nil {
				return nil, apiError(http.StatusBadRequest, "since: want the ID of an event, or a time: %v", err)
			}
		}
	}
	return q, nil
}

// acceptsStream reports whether a client accepts server-sent events.
func acceptsStream(r *http.Request) bool {
	for _, field := range r.Header.Values("Accept") {
		for media := range strings.SplitSeq(field, ",") {
			media, _, _ = strings.Cut(media, ";")
			if strings.EqualFold(strings.TrimSpace(media), "text/event-stream") {
				return true
			}
		}
	}
	return false
}

// stream sends events as they happen (server-sent events). First it sends the events that the client
// missed: those after its Last-Event-ID, else those of `since`, else none. If a client is too slow,
// stream tells it so and ends; the client can come back with its Last-Event-ID. A stream ends with
// the configuration.
func (a *AdminAPI) stream(w http.ResponseWriter, r *http.Request, q *eventQuery) error {
	resumed := r.Header.Get("Last-Event-ID")
	if resumed != "" {
		id, err := strconv.ParseUint(resumed, 10, 64)
		if err != nil {
			return apiError(http.StatusBadRequest, "Last-Event-ID: want the ID of an event, not %q", resumed)
		}
		q.after, q.from, q.since, q.limit = id, time.Time{}, true, event.Kept
	}
	missed, sub := event.Latest.Subscribe(q.after)
	defer sub.Close()
	out := newEventStream(w)
	out.begin()
	if q.since {
		wanted := q.pick(missed)
		if resumed != "" && len(missed) > 0 && missed[0].ID > q.after+1 {
			out.send("gap", 0, map[string]uint64{"missed": missed[0].ID - q.after - 1})
		}
		for _, e := range wanted {
			out.send("", e.ID, e)
		}
	}
	seen := q.after
	if len(missed) > 0 {
		seen = missed[len(missed)-1].ID
	}
	q.after, q.from = 0, time.Time{}
	out.flush()

	over := a.ctx.Done()
	if a.ctx.Err() != nil {
		over = nil // the configuration failed to load; its admin endpoint stays
	}
	pulse := time.NewTicker(streamPulse)
	defer pulse.Stop()
	for out.err == nil {
		select {
		case e, ok := <-sub.Events:
			if !ok {
				if sub.TooSlow() {
					out.send("too_slow", 0, map[string]string{"error": "the stream was read too slowly; come back with Last-Event-ID"})
					out.flush()
				}
				return nil
			}
			seen = e.ID
			if q.takes(&e) {
				out.send("", e.ID, e)
			}
			if len(sub.Events) == 0 {
				out.flush()
			}
		case <-pulse.C:
			out.pulse(seen)
			out.flush()
		case <-r.Context().Done():
			return nil
		case <-over:
			return nil
		case <-a.replaced:
			return nil
		}
	}
	return nil
}

// An eventStream writes server-sent events. After the first error it writes
// nothing.
type eventStream struct {
	w       http.ResponseWriter
	control *http.ResponseController
	err     error
}

func newEventStream(w http.ResponseWriter) *eventStream {
	return &eventStream{w: w, control: http.NewResponseController(w)}
}

// begin sends the headers. It removes the admin endpoint's read deadline, which would end
// the stream.
func (s *eventStream) begin() {
	_ = s.control.SetReadDeadline(time.Time{})
	s.w.Header().Set("Content-Type", "text/event-stream")
	s.w.Header().Set("Cache-Control", "no-store")
	s.w.Header().Set("X-Accel-Buffering", "no")
	s.w.WriteHeader(http.StatusOK)
	s.write(fmt.Sprintf("retry: %d\n\n", api.StreamRetry.Milliseconds()))
}

// send writes an event. name "" makes it a plain message; id 0 leaves the client's
// Last-Event-ID as it is.
func (s *eventStream) send(name string, id uint64, value any) {
	data, err := json.Marshal(value)
	if err != nil {
		s.err = err
		return
	}
	var b strings.Builder
	if name != "" {
		fmt.Fprintf(&b, "event: %s\n", name)
	}
	if id != 0 {
		fmt.Fprintf(&b, "id: %d\n", id)
	}
	fmt.Fprintf(&b, "data: %s\n\n", data)
	s.write(b.String())
}

// pulse writes a sign of life with the ID of the latest event, since the client does not
// get the events of other pools.
func (s *eventStream) pulse(seen uint64) {
	text := ": alive\n"
	if seen != 0 {
		text += fmt.Sprintf("id: %d\n", seen)
	}
	s.write(text + "\n")
}

func (s *eventStream) write(text string) {
	if s.err != nil {
		return
	}
	_ = s.control.SetWriteDeadline(time.Now().Add(streamPatience))
	_, s.err = s.w.Write([]byte(text))
}

func (s *eventStream) flush() {
	if s.err == nil {
		s.err = s.control.Flush()
	}
}
