// Package shelf carries facts between instances in a storage that they share.
package shelf

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"

	"github.com/apifailover/caddy-failover/internal/fleet"
)

const (
	// ReadEvery is the default time between two looks at the others' values.
	ReadEvery = 2 * time.Second
	// writeEvery is the shortest time between two writes.
	writeEvery = 250 * time.Millisecond
	// keptReads is for how many looks of the others news is kept that is told only once.
	keptReads = 5
	// staleAfter is how long a value stays that its instance writes no more.
	staleAfter = 10 * time.Minute
	maxValue   = 8 << 20 // bytes of a value of another instance
	maxValues  = 1000
	maxRecords = 5000
)

// process tells the values of this process from those of its past.
var process = strings.ToLower(rand.Text()[:8])

// A Shelf is an engine in a storage. Each instance writes one value, which all read. It is safe
// for concurrent use.
type Shelf struct {
	storage  certmagic.Storage
	folder   string
	own      string // key of this instance's value
	past     string // start of the names of values that earlier processes of this instance wrote
	interval time.Duration

	busy   chan struct{}     // holds a token while no call of the storage is under way
	others map[string]*value // by key; used by who has the token
	ahead  time.Duration     // of this clock before that of the storage; used by who has the token

	mu      sync.Mutex
	records map[string]*kept
	serial  int
	dirty   bool
	told    bool // the node tells facts, so it has read all
	written time.Time
}

// kept is a record that is written until a time.
type kept struct {
	fleet.Record
	counts time.Time // until when it counts; zero: it is over
	until  time.Time
}

// value is what was read of another instance.
type value struct {
	sum     [32]byte
	changed time.Time // when a look found it changed; of this instance's own past: when it was written
	wrote   time.Time // when it was written, as far as known
	data    map[string]string
}

// stored is a value as JSON.
type stored struct {
	Records []storedRecord `json:"records"`
}

type storedRecord struct {
	Key  string `json:"key"`
	Data string `json:"data"`
	Left int64  `json:"left_ms,omitempty"` // when the value was written
}

// New returns a shelf. Every is the time between two looks; 0: ReadEvery.
func New(storage certmagic.Storage, fleetName, instance string, every time.Duration) *Shelf {
	if every <= 0 {
		every = ReadEvery
	}
	folder := path.Join("failover", "fleet", name(fleetName))
	s := &Shelf{
		storage: storage, folder: folder, own: path.Join(folder, name(instance)+"-"+process+".json"), past: name(instance) + "-", interval: every,
		busy: make(chan struct{}, 1), records: make(map[string]*kept), others: make(map[string]*value),
	}
	s.busy <- struct{}{}
	return s
}

// name returns a text as a part of a key.
func name(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:8])
}

// Interval returns the time between two looks at the others' values.
func (s *Shelf) Interval() time.Duration { return s.interval }

// within makes a call of the storage, and does not wait longer than ctx for one that ignores it.
func (s *Shelf) within(ctx context.Context, call func() error) error {
	select {
	case <-s.busy:
	case <-ctx.Done():
		return ctx.Err()
	}
	done := make(chan error, 1)
	go func() {
		err := call()
		s.busy <- struct{}{}
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Publish implements fleet.Engine. News within writeEvery of a write is written by the watcher.
func (s *Shelf) Publish(ctx context.Context, records []fleet.Record) (forgotten bool, err error) {
	now := time.Now()
	s.mu.Lock()
	for _, r := range records {
		k := &kept{Record: r, counts: now.Add(r.Left), until: now.Add(r.Left)}
		if r.Key == "" {
			s.serial++
			k.Record.Key = fmt.Sprintf("once/%d", s.serial)
			k.counts = now.Add(keptReads * s.interval)
			k.until = k.counts
		} else if r.Left <= 0 {
			k.counts, k.until = time.Time{}, now.Add(keptReads*s.interval)
		}
		if len(s.records) < maxRecords || s.records[k.Key] != nil {
			s.records[k.Key] = k
		}
	}
	s.dirty, s.told = true, true
	early := now.Sub(s.written) < writeEvery
	s.mu.Unlock()
	if early {
		return false, nil
	}
	return false, s.write(ctx)
}

// write writes the value if there is anything new.
func (s *Shelf) write(ctx context.Context) error {
	now := time.Now()
	s.mu.Lock()
	if !s.dirty {
		s.mu.Unlock()
		return nil
	}
	var v stored
	for key, k := range s.records {
		if !now.Before(k.until) {
			delete(s.records, key)
			continue
		}
		r := storedRecord{Key: key, Data: string(k.Data)}
		if !k.counts.IsZero() {
			r.Left = max(1, k.counts.Sub(now).Milliseconds())
		}
		v.Records = append(v.Records, r)
	}
	s.dirty, s.written = false, now
	s.mu.Unlock()
	slices.SortFunc(v.Records, func(a, b storedRecord) int { return strings.Compare(a.Key, b.Key) })
	data, err := json.Marshal(v)
	if err == nil {
		err = s.within(ctx, func() error { return s.storage.Store(ctx, s.own, data) })
	}
	if err != nil {
		s.mu.Lock()
		s.dirty, s.written = true, time.Time{}
		s.mu.Unlock()
		return fmt.Errorf("writing %s: %w", s.own, err)
	}
	return nil
}

// compareClocks writes the value, and finds out how far this clock is ahead of the storage's. It does neither if a shelf of an earlier
// configuration has left a value, which this one has no records to replace with yet.
func (s *Shelf) compareClocks(ctx context.Context) error {
	s.mu.Lock()
	empty := len(s.records) == 0
	s.mu.Unlock()
	var modified time.Time // of this instance's value; zero: there is none
	stat := func() error {
		modified = time.Time{}
		if info, err := s.storage.Stat(ctx, s.own); err == nil {
			modified = info.Modified
		}
		return nil
	}
	if err := s.within(ctx, stat); err != nil || empty && !modified.IsZero() {
		return err
	}
	s.mu.Lock()
	s.dirty = true
	s.mu.Unlock()
	began := time.Now()
	if err := s.write(ctx); err != nil {
		return err
	}
	return s.within(ctx, func() error {
		if err := stat(); err == nil && !modified.IsZero() {
			s.ahead = began.Sub(modified)
		}
		return nil
	})
}

// Watch implements fleet.Engine. It reads the others' values again and again.
func (s *Shelf) Watch(ctx context.Context, ready func(), take func(fleet.Record)) error {
	if err := s.compareClocks(ctx); err != nil {
		return err
	}
	if _, err := s.look(ctx, false); err != nil {
		return err
	}
	ready()
	write, read := time.NewTicker(writeEvery), time.NewTicker(s.interval)
	defer write.Stop()
	defer read.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-write.C:
			if err := s.write(ctx); err != nil {
				return err
			}
		case <-read.C:
			news, err := s.look(ctx, false)
			if err != nil {
				return err
			}
			for _, r := range news {
				take(r)
			}
		}
	}
}

// Snapshot implements fleet.Engine.
func (s *Shelf) Snapshot(ctx context.Context) ([]fleet.Record, error) { return s.look(ctx, true) }

// look reads the others' values, and returns what is new in them, or all. Unless it returns all, it deletes values of
// instances that are long gone, once this instance's own value is written: it has the orders that were in them.
func (s *Shelf) look(ctx context.Context, all bool) ([]fleet.Record, error) {
	var found []fleet.Record // read only if the call has ended: it may go on without us
	err := s.within(ctx, func() (err error) {
		found, err = s.lookNow(ctx, all)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", s.folder, err)
	}
	return found, nil
}

func (s *Shelf) lookNow(ctx context.Context, all bool) (news []fleet.Record, err error) {
	s.mu.Lock()
	tidy := !all && s.told && !s.dirty
	s.mu.Unlock()
	keys, err := s.storage.List(ctx, s.folder, false)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	slices.Sort(keys)
	now := time.Now()
	here := make(map[string]bool, len(keys))
	var failed error // the latest error of a value
	loaded := 0
	for _, key := range keys[:min(len(keys), maxValues)] {
		if path.Base(key) == path.Base(s.own) || !strings.HasSuffix(key, ".json") {
			continue
		}
		data, err := s.storage.Load(ctx, key)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue // just deleted
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case err != nil:
			failed, here[key] = err, true
			continue
		}
		loaded++
		if len(data) > maxValue {
			continue
		}
		here[key] = true
		v, sum := s.others[key], sha256.Sum256(data)
		switch {
		case v == nil:
			v = &value{sum: sum, changed: now, wrote: now}
			s.others[key] = v
			if info, err := s.storage.Stat(ctx, key); err == nil && info.Modified.Add(s.ahead).Before(now) {
				v.wrote = info.Modified.Add(s.ahead)
				if strings.HasPrefix(path.Base(key), s.past) {
					v.changed = v.wrote
				}
			}
		case v.sum != sum:
			v.sum, v.changed, v.wrote = sum, now, now
		case tidy && now.Sub(v.changed) >= staleAfter:
			if err := s.storage.Delete(ctx, key); err == nil || errors.Is(err, fs.ErrNotExist) {
				delete(s.others, key)
			}
			continue
		case !all:
			continue
		}
		news = append(news, v.read(data, now.Sub(v.wrote), all)...)
	}
	if failed != nil && loaded == 0 { // the storage fails, not one value
		if _, err := s.storage.Load(ctx, s.own); err != nil {
			return nil, failed
		}
	}
	for key := range s.others {
		if !here[key] {
			delete(s.others, key)
		}
	}
	return news, nil
}

// read takes a value that was written age ago, and returns what is new in it, or all that
// counts.
func (v *value) read(data []byte, age time.Duration, all bool) (news []fleet.Record) {
	var s stored
	if json.Unmarshal(data, &s) != nil {
		return nil // half written, or a stranger's
	}
	before := v.data
	v.data = make(map[string]string, len(s.Records))
	for _, r := range s.Records[:min(len(s.Records), maxRecords)] {
		v.data[r.Key] = r.Data
		left := time.Duration(r.Left)*time.Millisecond - age
		switch {
		case !all && before[r.Key] == r.Data, r.Left > 0 && left <= 0, all && r.Left <= 0:
			continue
		}
		news = append(news, fleet.Record{Key: r.Key, Data: []byte(r.Data), Left: max(0, left)})
	}
	return news
}

var _ fleet.Engine = (*Shelf)(nil)
