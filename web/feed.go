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
	// eventsAtFirst is how many past events a new viewer gets.
	eventsAtFirst = 200
)

// A Source is what a feed shows. Values are encoded as JSON. Its functions may be
// called at once.
type Source struct {
	// Pools returns how every pool stands.
	Pools func(now time.Time) any

	// History returns what happened in the minutes from one on.
	History func(now, from time.Time) any

	// Past returns the events after one, oldest first.
	Past func(after uint64) []Event

	// Watch calls a function with each event after one, until ctx is done.
	Watch func(ctx context.Context, after uint64, each func(Event))
}

// An Event is something to show at once. IDs rise, from 1.
type Event struct {
	ID   uint64
	Data any
}

// A Feed tells any number of viewers how things stand: each second, and events
// as they happen. It works only while somebody watches, and renders and packs
// what it says once for all viewers. All methods may be called at once.
type Feed struct {
	source Source
	epoch  string // tells the events of this process from those of others

	mu      sync.Mutex
	viewers int
	stop    context.CancelFunc // of run; nil while nobody watches
	newest  *frame
	past    cached // history as of the last full hour
	now     cached // the latest snapshot
}

// cached is something rendered, and when.
type cached struct {
	at    time.Time
	event []byte
}

// A frame is one or several server-sent events, plain and as blocks of a deflate
// stream that refer to nothing before them. Frames form a list from which each
// viewer reads on at its own pace; what all have read is garbage.
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

// join adds a viewer. It returns what the viewer is to know first, and the frame
// after which it reads on. The viewer has to leave.
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
	plain = append(plain, f.now.event...)
	for _, e := range events {
		plain = f.appendEvent(plain, e)
	}
	plain = appendEvent(plain, "ready", "", struct{}{})
	return newFrame(plain), f.newest
}

// leave takes a viewer off. The last one ends the work.
func (f *Feed) leave() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.viewers--; f.viewers == 0 {
		f.stop()
		f.stop, f.newest = nil, nil
	}
}

// run renders what viewers are to know until nobody watches. Events up to the
// one of an ID are known already.
func (f *Feed) run(ctx context.Context, newest uint64) {
	var watching sync.WaitGroup
	defer watching.Wait()
	watching.Go(func() {
		f.source.Watch(ctx, newest, func(e Event) { f.publish(ctx, f.appendEvent(nil, e), nil) })
	})
	ticker := time.NewTicker(snapshotEvery)
	defer ticker.Stop()
	renewed := time.Now()
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
			}
			f.publish(ctx, plain, func() { f.now = cached{now, snapshot} })
		}
	}
}

// publish hands events to all viewers, unless ctx is done: then they belong to
// viewers that have left.
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

func (f *Feed) snapshot(now time.Time) []byte {
	return appendEvent(nil, "snapshot", "", struct {
		At    time.Time `json:"at"`
		Pools any       `json:"pools"`
	}{now, f.source.Pools(now)})
}

func (f *Feed) appendEvent(to []byte, e Event) []byte {
	return appendEvent(to, "event", f.epoch+"-"+strconv.FormatUint(e.ID, 10), e.Data)
}

// eventNumber reads the ID of an event of this process.
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

// packers compress frames. A frame's blocks begin with an empty window and end
// at a byte (a sync flush), so that any sequence of frames is one deflate
// stream, and viewers who joined at different times can share them.
var packers = sync.Pool{New: func() any {
	w, _ := flate.NewWriter(nil, flate.DefaultCompression)
	return w
}}

func newFrame(plain []byte) *frame {
	var packed bytes.Buffer
	w := packers.Get().(*flate.Writer)
	defer packers.Put(w)
	w.Reset(&packed)
	_, _ = w.Write(plain) // a buffer takes everything
	_ = w.Flush()
	return &frame{plain: plain, packed: packed.Bytes(), ready: make(chan struct{})}
}
