package sla

import (
	"context"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

// memory is a storage for use by one goroutine.
type memory map[string][]byte

func (m memory) Store(_ context.Context, key string, value []byte) error {
	m[key] = slices.Clone(value)
	return nil
}

func (m memory) Load(_ context.Context, key string) ([]byte, error) {
	if value, ok := m[key]; ok {
		return value, nil
	}
	return nil, fs.ErrNotExist
}

func (m memory) Delete(_ context.Context, key string) error { delete(m, key); return nil }

func (m memory) Exists(_ context.Context, key string) bool { return m[key] != nil }

func (m memory) List(_ context.Context, prefix string, _ bool) (keys []string, err error) {
	for _, key := range slices.Sorted(maps.Keys(m)) {
		if strings.HasPrefix(key, prefix+"/") {
			keys = append(keys, key)
		}
	}
	return keys, nil
}

// known returns the number of calls that a new process would load.
func known(t *testing.T, m memory, instance string, now time.Time) (n uint64, warnings int) {
	t.Helper()
	h := new(History)
	w, err := NewKeeper(m, "failover", "pool", instance).Load(t.Context(), h, now)
	if err != nil {
		t.Fatal(err)
	}
	return h.Pool().Counts(now, now.Add(-30*24*time.Hour), now.Add(time.Minute)).Calls, len(w)
}

// TestKeeperSurvives crashes in the middle of each write, over hours. A restart must load
// at least what the save before stored.
func TestKeeperSurvives(t *testing.T) {
	m, h := memory{}, new(History)
	k := NewKeeper(m, "failover", "pool", "one")
	var calls, saved uint64
	for minute := range 200 {
		now := noon.Add(time.Duration(minute) * time.Minute)
		for range 7 {
			h.Pool().Record(now, ok(time.Millisecond))
			h.Endpoint("a").Record(now, ok(time.Millisecond))
			calls++
		}
		before := maps.Clone(m)
		if warnings, err := k.Save(t.Context(), h, now); err != nil || len(warnings) > 0 {
			t.Fatal(warnings, err)
		}
		crashed := maps.Clone(before) // contents of the storage when the next write is torn
		for _, part := range parts {  // in write order
			for key, value := range m {
				if !strings.Contains(key, part) || string(before[key]) == string(value) {
					continue
				}
				crashed[key] = value[:len(value)/2]
				if got, warnings := known(t, maps.Clone(crashed), "one", now); got < saved || warnings != 1 {
					t.Fatalf("minute %d, %s torn: %d calls and %d warnings, want at least %d and 1", minute, key, got, warnings, saved)
				}
				crashed[key] = value
			}
		}
		if got, _ := known(t, m, "one", now); got != calls {
			t.Fatalf("minute %d: %d calls, want %d", minute, got, calls)
		}
		saved = calls
	}
	if len(m) != slots*len(parts) {
		t.Errorf("%d keys", len(m))
	}
	size := 0
	for key, value := range m {
		if strings.Contains(key, parts[recent]) {
			size = max(size, len(value))
		}
	}
	if size > 8<<10 {
		t.Errorf("an hour of two series takes %d bytes", size)
	}
}

// TestKeeperMovesOn switches to another storage that holds an older snapshot. The new
// storage must then hold everything that the keeper knows.
func TestKeeperMovesOn(t *testing.T) {
	first, second := memory{}, memory{}
	older := new(History)
	older.Pool().Record(noon.Add(-time.Hour), fail(Dial))
	if _, err := NewKeeper(second, "failover", "pool", "one").Save(t.Context(), older, noon.Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	h := new(History)
	k := NewKeeper(first, "failover", "pool", "one")
	for minute := range 90 {
		now := noon.Add(time.Duration(minute) * time.Minute)
		if minute == 80 {
			k.SetStorage(second)
		}
		h.Pool().Record(now, ok(time.Millisecond))
		if _, err := k.Save(t.Context(), h, now); err != nil {
			t.Fatal(err)
		}
	}
	now := noon.Add(90 * time.Minute)
	if n, _ := known(t, first, "one", now); n != 80 {
		t.Errorf("the first storage knows %d calls, want 80", n)
	}
	if n, _ := known(t, second, "one", now); n != 90 {
		t.Errorf("the second storage knows %d calls, want 90", n)
	}
}

// TestKeeperOthers checks that instances add up, that damaged values of others stay, and
// that values of instances long gone are deleted.
func TestKeeperOthers(t *testing.T) {
	m := memory{}
	for i, instance := range []string{"one", "../two", "three"} {
		h := new(History)
		for range 10 * (i + 1) {
			h.Pool().Record(noon, ok(time.Millisecond))
		}
		if _, err := NewKeeper(m, "failover", "pool", instance).Save(t.Context(), h, noon); err != nil {
			t.Fatal(err)
		}
	}
	stranger := NewKeeper(m, "failover", "pool 2", "one")
	if _, err := stranger.Save(t.Context(), new(History), noon); err != nil {
		t.Fatal(err)
	}
	k := NewKeeper(m, "failover", "pool", "one")
	others, warnings, err := k.Others(t.Context())
	if err != nil || len(warnings) > 0 || len(others) != 2 {
		t.Fatalf("%d others, %v, %v", len(others), warnings, err)
	}
	rep := NewReport(Query{From: noon.Add(-time.Hour), To: noon.Add(time.Hour), Now: noon.Add(time.Minute)}, others...)
	if rep.Total.Calls != 50 || rep.Instances != 2 {
		t.Errorf("the others have %d calls in %d instances", rep.Total.Calls, rep.Instances)
	}
	for key := range m {
		if strings.Contains(key, "/three/") {
			m[key] = []byte("rubbish")
		}
	}
	if others, warnings, err = k.Others(t.Context()); err != nil || len(warnings) == 0 || len(others) != 1 {
		t.Errorf("one damaged: %d others, %v, %v", len(others), warnings, err)
	}
	if n, err := k.Prune(t.Context(), noon.Add(39*24*time.Hour)); n != 0 || err != nil {
		t.Errorf("pruned %d, %v", n, err)
	}
	if n, err := k.Prune(t.Context(), noon.Add(41*24*time.Hour)); n != 1 || err != nil {
		t.Errorf("pruned %d, %v", n, err)
	}
}
