package sla

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"time"
)

// Storage stores values by key. It is the part of certmagic.Storage that a [Keeper] uses.
// Load returns an error that wraps fs.ErrNotExist for a missing key; List may do so.
type Storage interface {
	Store(ctx context.Context, key string, value []byte) error
	Load(ctx context.Context, key string) ([]byte, error)
	Delete(ctx context.Context, key string) error
	Exists(ctx context.Context, key string) bool
	List(ctx context.Context, prefix string, recursive bool) ([]string, error)
}

// Keeper stores the history of one instance of a pool. All methods are safe for concurrent
// use.
//
// It writes the finished hours once an hour and the rest with each save, so a save is about
// as large as an hour of history. Each of the two parts has two slots that are written in
// turn. A crash in the middle of a write can only damage the older slot, and loses only
// what came after the last save. The keys are
//
//	<prefix>/<pool>/<instance>/past.0     past.1
//	<prefix>/<pool>/<instance>/recent.0   recent.1
//
// Earlier versions made other keys from some names. A keeper reads their values until it
// has saved under the current keys, and never writes to them.
//
// Only one process may keep an instance at a time. Instances of a pool that share a storage
// add up: pass the snapshots of Others and your own to [NewReport].
type Keeper struct {
	storage Storage
	place   place
	former  place // equal to place if the name always had the same keys

	mu        sync.Mutex
	loaded    bool
	seq       uint64 // sequence number of the latest snapshot
	next      [len(parts)]int
	hour      int64  // past is stored up to this hour
	forgotten uint64 // History.forgotten when past was stored
}

const (
	past = iota
	recent
)

var parts = [...]string{past: "past", recent: "recent"}

const slots = 2

// clockSet is a time that every set clock has passed. A machine whose clock stops while it
// is off starts long before it; with such a time, all history would be in the future.
var clockSet = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)

// NewKeeper returns a keeper of one instance of a pool. Pool and instance may be any text.
func NewKeeper(storage Storage, prefix, pool, instance string) *Keeper {
	k := &Keeper{storage: storage}
	k.place, k.former = newPlace(prefix, pool, instance)
	return k
}

// SetStorage switches the keeper to another storage, and keeps everything it knows. It does
// not read the new storage: it overwrites what another process stored there for this
// instance.
func (k *Keeper) SetStorage(storage Storage) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.storage = storage
	k.hour = 0
}

// Load adds the stored history to h, once: after a Load without error it does nothing. It
// sets damaged values aside under other keys and returns a warning for each. It returns an
// error and leaves h unchanged if it cannot read the storage or the clock is not set.
func (k *Keeper) Load(ctx context.Context, h *History, now time.Time) (warnings []error, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.loadLocked(ctx, h, now)
}

func (k *Keeper) loadLocked(ctx context.Context, h *History, now time.Time) (warnings []error, err error) {
	if k.loaded {
		return nil, nil
	}
	if now.Before(clockSet) {
		return nil, fmt.Errorf("loading history %s: the clock is not set: it shows %v", k.place.pool, now.UTC().Format(time.DateTime))
	}
	found, damaged, err := k.read(ctx, k.place)
	if err != nil {
		return nil, err
	}
	before, err := k.readFormer(ctx)
	if err != nil {
		return nil, err
	}
	for _, d := range damaged {
		warnings = append(warnings, k.setAside(ctx, d))
	}
	for part, s := range found {
		if s.snapshot != nil {
			k.next[part] = (s.slot + 1) % slots
			k.seq = max(k.seq, s.snapshot.seq)
		}
	}
	if s := found[past].snapshot; s != nil {
		k.hour = s.until
	}
	for part, s := range before {
		if found[part].snapshot == nil && s.snapshot != nil {
			found[part].snapshot = s.snapshot
			k.seq = max(k.seq, s.snapshot.seq)
		}
	}
	if s := found.join(); s != nil {
		h.Restore(now, s)
	}
	k.loaded = true
	return warnings, nil
}

// Save stores h at time now and closes the finished steps ([History.Advance]). Call it
// about every minute and at the end. If nothing was loaded yet it loads first, so it never
// overwrites unknown history.
func (k *Keeper) Save(ctx context.Context, h *History, now time.Time) (warnings []error, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if warnings, err = k.loadLocked(ctx, h, now); err != nil {
		return warnings, err
	}
	h.Advance(now)
	h.mu.RLock()
	forgotten := h.forgotten
	h.mu.RUnlock()
	s := h.Snapshot(now)
	hour := levels[hours].indexAt(unixMilli(now))

	// Recent begins where past ends. Write past first: if that fails, recent still covers
	// everything after the stored past.
	var pastErr error
	if hour != k.hour || forgotten != k.forgotten {
		if pastErr = k.write(ctx, past, s.part(0, hour)); pastErr == nil {
			k.hour, k.forgotten = hour, forgotten
		}
	}
	return warnings, errors.Join(pastErr, k.write(ctx, recent, s.part(k.hour, forever)))
}

func (k *Keeper) write(ctx context.Context, part int, s *Snapshot) error {
	// Use the time as a lower bound, so seq exceeds every value in a storage that is set
	// later.
	k.seq = max(k.seq+1, uint64(unixMilli(s.saved)))
	s.seq = k.seq
	key := k.place.key(part, k.next[part])
	if err := k.storage.Store(ctx, key, s.Encode()); err != nil {
		return fmt.Errorf("storing history %s: %w", key, err)
	}
	k.next[part] = (k.next[part] + 1) % slots
	return nil
}

// Others returns the stored snapshots of the pool's other instances, by instance. It leaves
// damaged values alone, because they may be half written. It returns a warning if an
// instance has damaged values and nothing readable.
func (k *Keeper) Others(ctx context.Context) (snapshots []*Snapshot, warnings []error, err error) {
	others, err := k.others(ctx)
	if err != nil {
		return nil, nil, err
	}
	for _, other := range others {
		found, damaged, err := k.read(ctx, other)
		if err != nil {
			return nil, nil, err
		}
		if s := found.join(); s != nil {
			snapshots = append(snapshots, s)
			continue
		}
		for _, d := range damaged {
			warnings = append(warnings, d.err)
		}
	}
	return snapshots, warnings, nil
}

// Prune deletes the values of other instances that have not saved for 40 days, and returns
// the number of these instances.
func (k *Keeper) Prune(ctx context.Context, now time.Time) (n int, err error) {
	all, err := k.all(ctx)
	if err != nil {
		return 0, err
	}
	for _, other := range all {
		if other == k.place {
			continue
		}
		found, _, err := k.read(ctx, other)
		if err != nil {
			return n, err
		}
		s := found.join()
		if s == nil || now.Sub(s.saved) <= maxWindow {
			continue
		}
		for part := range parts {
			for slot := range slots {
				key := other.key(part, slot)
				if err := k.storage.Delete(ctx, key); err != nil && !errors.Is(err, fs.ErrNotExist) {
					return n, fmt.Errorf("deleting history %s: %w", key, err)
				}
			}
		}
		n++
	}
	return n, nil
}

// others returns one place for each other instance: the current one if it holds anything,
// else the former one.
func (k *Keeper) others(ctx context.Context) ([]place, error) {
	all, err := k.all(ctx)
	if err != nil {
		return nil, err
	}
	var others []place
	for _, p := range all {
		now := place{k.place.pool, renewed(p.instance)}
		if now != k.place && (p == now || !slices.Contains(all, now)) {
			others = append(others, p)
		}
	}
	return others, nil
}

// all returns all places of the pool that hold anything.
func (k *Keeper) all(ctx context.Context) ([]place, error) {
	all, err := k.list(ctx, k.place.pool)
	if err != nil || k.former.pool == k.place.pool {
		return all, err
	}
	former, err := k.list(ctx, k.former.pool)
	if err != nil && k.former.portable() {
		return nil, err
	}
	return append(all, former...), nil
}

func (k *Keeper) list(ctx context.Context, pool string) ([]place, error) {
	keys, err := k.storage.List(ctx, pool, true)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("listing history %s: %w", pool, err)
	}
	var places []place
	for _, key := range keys {
		rest, ok := strings.CutPrefix(key, pool+"/")
		instance, file, isFile := strings.Cut(rest, "/")
		if p := (place{pool, instance}); ok && isFile && isPart(file) && !slices.Contains(places, p) {
			places = append(places, p)
		}
	}
	slices.SortFunc(places, func(a, b place) int { return strings.Compare(a.instance, b.instance) })
	return places, nil
}

func isPart(file string) bool {
	name, _, _ := strings.Cut(file, ".")
	return slices.Contains(parts[:], name)
}

// stored is the newest snapshot of each part.
type stored [len(parts)]struct {
	snapshot *Snapshot // nil if there is none
	slot     int
}

// join returns everything stored, or nil if there is nothing. If a crash between two writes
// left the parts overlapping, past wins.
func (s stored) join() *Snapshot {
	p, r := s[past].snapshot, s[recent].snapshot
	switch {
	case p == nil:
		return r
	case r == nil:
		return p
	case r.since < p.until:
		r = r.part(p.until, forever)
	}
	return p.join(r)
}

type damage struct {
	key   string
	value []byte
	err   error
}

// readFormer reads the former place of the instance. It ignores damaged values and leaves
// them there.
func (k *Keeper) readFormer(ctx context.Context) (stored, error) {
	if k.former == k.place {
		return stored{}, nil
	}
	found, _, err := k.read(ctx, k.former)
	if err != nil && !k.former.portable() {
		return stored{}, nil
	}
	return found, err
}

// read reads all slots of a place. It reads recent before past, the reverse of the write
// order, so no hour can be missed between them.
func (k *Keeper) read(ctx context.Context, at place) (found stored, damaged []damage, err error) {
	for _, part := range [...]int{recent, past} {
		for slot := range slots {
			key := at.key(part, slot)
			value, err := k.storage.Load(ctx, key)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return stored{}, nil, fmt.Errorf("loading history %s: %w", key, err)
			}
			s, err := Decode(value)
			if err != nil {
				damaged = append(damaged, damage{key, value, fmt.Errorf("history %s: %w", key, err)})
				continue
			}
			if f := &found[part]; f.snapshot == nil || s.seq > f.snapshot.seq {
				f.snapshot, f.slot = s, slot
			}
		}
	}
	return found, damaged, nil
}

// setAside moves a damaged value to another key, where the next damaged value replaces it.
// It returns a warning.
func (k *Keeper) setAside(ctx context.Context, d damage) error {
	dir, file := path.Split(d.key)
	key := dir + "damaged." + file
	if err := k.storage.Store(ctx, key, d.value); err != nil {
		return fmt.Errorf("%w; setting it aside as %s: %w", d.err, key, err)
	}
	if err := k.storage.Delete(ctx, d.key); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w; set aside as %s; deleting it: %w", d.err, key, err)
	}
	return fmt.Errorf("%w; set aside as %s", d.err, key)
}
