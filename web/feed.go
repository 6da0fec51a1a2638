package web

import (
	"bytes"
	"compress/flate"
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"sync"
	"time"
)

const (
	snapshotEvery = time.Second
	historyEvery  = 10 * time.Second
	historySpan   = time.Hour
	// eventsAtFirst is the number of past events that a new viewer gets.
	eventsAtFirst = 200
)

// A Source provides the data of a feed. The feed encodes its values as JSON. Its functions must
// be safe for concurrent use.
type Source struct {
	// Pools returns the status of every pool.
	Pools func(now time.Time) any

	// History returns the results of each minute from `from` to now.
	History func(now, from time.Time) any

	// Incidents returns the latest incidents. Incidents may be nil.
	Incidents func() any

	// Detail returns the data for the view of an endpoint, or of a pool if endpoint is "". It
	// returns nil if there is no such pool or endpoint. Detail may be nil.
	Detail func(now time.Time, pool, endpoint string) any

	// Past returns the events after the given ID, oldest first.
	Past func(after uint64) []Event

	// Watch calls each with every event after the given ID until ctx is done.
	Watch func(ctx context.Context, after uint64, each func(Event))
}

// An Event is an event of a pool. IDs count up from 1.
type Event struct {
	ID   uint64
	Data any
}

// A Feed sends the status each second, and events as they happen, to any number of viewers. It
// works only while it has viewers, and renders and compresses once for all of them. It is safe
// for concurrent use.
type Feed struct {
	source Source
	epoch  string // identifies this process, whose events start at 1

	mu      sync.Mutex
	viewers int
	stop    context.CancelFunc // stops run; nil without viewers
	newest  *frame
	history rendered // of the last hour
	latest  rendered // snapshot
}

// rendered is a rendered message and its time.
type rendered struct {
	at      time.Time
	message []byte
}

// A frame is one or more server-sent events, plain and as blocks of a deflate stream that
// do not refer to earlier data. Frames form a list that each viewer reads at its own pace. The
// garbage collector frees a frame when no viewer needs it.
type frame struct {
	plain  []byte
	packed []byte

	ready chan struct{} // closed when next is set
	next  *frame
}

// NewFeed returns a feed of source.
func NewFeed(source Source) *Feed {
	return &Feed{source: source, epoch: strconv.FormatInt(time.Now().UnixMilli(), 36)}
}

// join adds a viewer, which must leave. It returns the frame to send first, and the frame after
// which the viewer continues to read.
func (f *Feed) join(now time.Time, lastEventID string) (initial *frame, from *frame) {
	f.mu.Lock()
	defer f.mu.Unlock()
	after, resumed := f.eventNumber(lastEventID)
	events := f.source.Past(after)
	if !resumed && len(events) > eventsAtFirst {
		events = events[len(events)-eventsAtFirst:]
	}
	newest := after
	if len(events) > 0 {
		newest = events[len(events)-1].ID
	}
	if f.viewers++; f.viewers == 1 {
		f.newest = &frame{ready: make(chan struct{})}
		f.latest = rendered{}
		ctx, cancel := context.WithCancel(context.Background())
		f.stop = cancel
		go f.run(ctx, newest)
	}
	if now.Sub(f.history.at) >= historyEvery || now.Before(f.history.at) {
		f.history = rendered{now, appendMessage(nil, "history", "", f.source.History(now, now.Add(-historySpan)))}
	}
	if f.latest.message == nil {
		f.latest = rendered{now, f.snapshot(now)}
	}
	plain := append([]byte(nil), f.history.message...)
	plain = append(plain, f.incidents()...)
	plain = append(plain, f.latest.message...)
	for _, e := range events {
		plain = f.appendEvent(plain, e)
	}
	plain = appendMessage(plain, "ready", "", struct{}{})
	return newFrame(plain), f.newest
}

// leave removes a viewer. The last one stops run.
func (f *Feed) leave() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.viewers--; f.viewers == 0 {
		f.stop()
		f.stop, f.newest = nil, nil
	}
}

// run renders frames until ctx is done. newest is the ID of the latest event that viewers already
// have.
func (f *Feed) run(ctx context.Context, newest uint64) {
	var watching sync.WaitGroup
	defer watching.Wait()
	watching.Go(func() {
		f.source.Watch(ctx, newest, func(e Event) { f.publish(ctx, f.appendEvent(nil, e), nil) })
	})
	ticker := time.NewTicker(snapshotEvery)
	defer ticker.Stop()
	renewed := time.Now()
	var sent []byte // the latest incidents that viewers have
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			snapshot := f.snapshot(now)
			plain := snapshot
			if now.Sub(renewed) >= historyEvery {
				renewed = now
				plain = appendMessage(snapshot[:len(snapshot):len(snapshot)], "history", "",
					f.source.History(now, now.Add(-2*time.Minute)))
				if incidents := f.incidents(); !bytes.Equal(incidents, sent) {
					sent = incidents
					plain = append(plain, incidents...)
				}
			}
			f.publish(ctx, plain, func() { f.latest = rendered{now, snapshot} })
		}
	}
}

// publish sends messages to all viewers, and calls also, which may be nil, under the lock. It does
// nothing if ctx is done, because then the viewers of run have left.
func (f *Feed) publish(ctx context.Context, plain []byte, also func()) {
	next := newFrame(plain)
	f.mu.Lock()
	defer f.mu.Unlock()
	if ctx.Err() != nil {
		return
	}
	if also != nil {
		also()
	}
	last := f.newest
	last.next = next
	f.newest = next
	close(last.ready)
}

// incidents returns the message with the latest incidents; nil if there is no source of them.
func (f *Feed) incidents() []byte {
	if f.source.Incidents == nil {
		return nil
	}
	return appendMessage(nil, "incidents", "", f.source.Incidents())
}

// snapshot returns the message with the status of all pools.
func (f *Feed) snapshot(now time.Time) []byte {
	return appendMessage(nil, "snapshot", "", struct {
		At    time.Time `json:"at"`
		Pools any       `json:"pools"`
	}{now, f.source.Pools(now)})
}

// appendEvent appends the message of an event.
func (f *Feed) appendEvent(to []byte, e Event) []byte {
	return appendMessage(to, "event", f.epoch+"-"+strconv.FormatUint(e.ID, 10), e.Data)
}

// eventNumber parses the ID of a message with an event. ok is false if the event is of another
// process.
func (f *Feed) eventNumber(id string) (n uint64, ok bool) {
	if len(id) <= len(f.epoch) || id[:len(f.epoch)] != f.epoch || id[len(f.epoch)] != '-' {
		return 0, false
	}
	n, err := strconv.ParseUint(id[len(f.epoch)+1:], 10, 64)
	return n, err == nil
}

// appendMessage appends a server-sent event with data as JSON. If data cannot be encoded, it
// appends the event `error`.
func appendMessage(to []byte, name, id string, data any) []byte {
	encoded, err := json.Marshal(data)
	if err != nil {
		encoded, _ = json.Marshal(fmt.Sprintf("encoding %s: %v", name, err))
		name = "error"
	}
	to = append(append(append(to, "event: "...), name...), '\n')
	if id != "" {
		to = append(append(append(to, "id: "...), id...), '\n')
	}
	return append(append(append(to, "data: "...), encoded...), '\n', '\n')
}

// packers compress frames. The blocks of a frame start with an empty window and end at a
// byte (a sync flush). So any sequence of frames is one deflate stream, and viewers that
// joined at different times can share frames.
var packers = sync.Pool{New: func() any {
	w, _ := flate.NewWriter(nil, flate.DefaultCompression)
	return w
}}

// newFrame compresses messages.
func newFrame(plain []byte) *frame {
	var packed bytes.Buffer
	w := packers.Get().(*flate.Writer)
	defer packers.Put(w)
	w.Reset(&packed)
	_, _ = w.Write(plain) // writing to a buffer cannot fail
	_ = w.Flush()
	return &frame{plain: plain, packed: packed.Bytes(), ready: make(chan struct{})}
}
