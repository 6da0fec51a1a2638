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

// A Source provides what a feed shows. Values are encoded as JSON. Its functions must be
// safe for concurrent use.
type Source struct {
	// Pools returns the status of every pool.
	Pools func(now time.Time) any

	// History returns the minutes since from.
	History func(now, from time.Time) any

	// Incidents returns the latest incidents. It may be nil.
	Incidents func() any

	// Detail returns what is shown of a pool, or of an endpoint in its own view, or nil if
	// there is no such pool or endpoint. endpoint "" means the pool. It may be nil.
	Detail func(now time.Time, pool, endpoint string) any

	// Past returns the events after the given ID, oldest first.
	Past func(after uint64) []Event

	// Watch calls a function with each event after the given ID until ctx is done.
	Watch func(ctx context.Context, after uint64, each func(Event))
}

// An Event is an event to show at once. IDs count up from 1.
type Event struct {
	ID   uint64
	Data any
}

// A Feed sends status and events to any number of viewers: the status each second, events
// as they happen. It works only while it has viewers, and renders and compresses once for
// all of them. All methods are safe for concurrent use.
type Feed struct {
	source Source
	epoch  string // identifies this process, whose events start at 1

	mu      sync.Mutex
	viewers int
	stop    context.CancelFunc // stops run; nil without viewers
	newest  *frame
	past    cached // history of the last hour
	now     cached // latest snapshot
}

// cached is a rendered value and its time.
type cached struct {
	at    time.Time
	event []byte
}

// A frame is one or more server-sent events, plain and as blocks of a deflate stream that
// do not refer to earlier data. Frames form a list that each viewer reads at its own pace.
// Frames that all viewers have read are garbage.
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

// join adds a viewer. It returns what to send first, and the frame after which the viewer
// reads on. The viewer must leave.
func (f *Feed) join(now time.Time, lastEventID string) (first *frame, from *frame) {
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
		f.now = cached{}
		ctx, cancel := context.WithCancel(context.Background())
		f.stop = cancel
		go f.run(ctx, newest)
	}
	if now.Sub(f.past.at) >= historyEvery || now.Before(f.past.at) {
		f.past = cached{now, appendEvent(nil, "history", "", f.source.History(now, now.Add(-historySpan)))}
	}
	if f.now.event == nil {
		f.now = cached{now, f.snapshot(now)}
	}
	plain := append([]byte(nil), f.past.event...)
	plain = append(plain, f.incidents()...)
	plain = append(plain, f.now.event...)
	for _, e := range events {
		plain = f.appendEvent(plain, e)
	}
	plain = appendEvent(plain, "ready", "", struct{}{})
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

// run renders frames until ctx is done. Viewers already know the events up to newest.
func (f *Feed) run(ctx context.Context, newest uint64) {
	var watching sync.WaitGroup
	defer watching.Wait()
	watching.Go(func() {
		f.source.Watch(ctx, newest, func(e Event) { f.publish(ctx, f.appendEvent(nil, e), nil) })
	})
	ticker := time.NewTicker(snapshotEvery)
	defer ticker.Stop()
	renewed := time.Now()
	var told []byte // the incidents as they were last sent
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			snapshot := f.snapshot(now)
			plain := snapshot
			if now.Sub(renewed) >= historyEvery {
				renewed = now
				plain = appendEvent(snapshot[:len(snapshot):len(snapshot)], "history", "",
					f.source.History(now, now.Add(-2*time.Minute)))
				if incidents := f.incidents(); !bytes.Equal(incidents, told) {
					told = incidents
					plain = append(plain, incidents...)
				}
			}
			f.publish(ctx, plain, func() { f.now = cached{now, snapshot} })
		}
	}
}

// publish sends events to all viewers, unless ctx is done: then its viewers have left.
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

// incidents returns the event with the latest incidents, empty without a source.
func (f *Feed) incidents() []byte {
	if f.source.Incidents == nil {
		return nil
	}
	return appendEvent(nil, "incidents", "", f.source.Incidents())
}

func (f *Feed) snapshot(now time.Time) []byte {
	return appendEvent(nil, "snapshot", "", struct {
		At    time.Time `json:"at"`
		Pools any       `json:"pools"`
	}{now, f.source.Pools(now)})
}

func (f *Feed) appendEvent(to []byte, e Event) []byte {
	return appendEvent(to, "event", f.epoch+"-"+strconv.FormatUint(e.ID, 10), e.Data)
}

// eventNumber parses the ID of an event of this process.
func (f *Feed) eventNumber(id string) (n uint64, ok bool) {
	if len(id) <= len(f.epoch) || id[:len(f.epoch)] != f.epoch || id[len(f.epoch)] != '-' {
		return 0, false
	}
	n, err := strconv.ParseUint(id[len(f.epoch)+1:], 10, 64)
	return n, err == nil
}

// appendEvent appends a server-sent event to a stream.
func appendEvent(to []byte, name, id string, data any) []byte {
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

func newFrame(plain []byte) *frame {
	var packed bytes.Buffer
	w := packers.Get().(*flate.Writer)
	defer packers.Put(w)
	w.Reset(&packed)
	_, _ = w.Write(plain) // writing to a buffer cannot fail
	_ = w.Flush()
	return &frame{plain: plain, packed: packed.Bytes(), ready: make(chan struct{})}
}
