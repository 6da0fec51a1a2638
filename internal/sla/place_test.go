package sla

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// hostileNames are names that some storages reject or confuse with each other.
var hostileNames = []string{
	"", ".", "..", "a", "A", "llm", "LLM", "Llm", "a/b", "a\\b", "../x", "a.", "a..", "a ", "con", "CON", "con.txt", "aux", "nul", "com1", "COM¹", "lpt9.x",
	"a:b", "a*b?", "a<b>|\"", "%", "%41", "a%2Fb", "\x00", "\xff", "ä", "Ä", "大语言模型服务", strings.Repeat("中", 29), strings.Repeat("中", 28) + "国",
	strings.Repeat("x", 64), strings.Repeat("x", 65), strings.Repeat("x", 1000), strings.Repeat("x", 1001), "straße", "K", "K", "~", "-", "_",
}

func TestKeysAreForEveryStorage(t *testing.T) {
	seen := map[string]string{}
	for _, name := range hostileNames {
		key := keySafe(name)
		requireElement(t, name, key)
		folded := strings.ToLower(key)
		if other, ok := seen[folded]; ok && other != name {
			t.Errorf("%q and %q have the key %q", name, other, key)
		}
		seen[folded] = name
	}
	for name, want := range map[string]string{"llm": "llm", "my-pool_2": "my-pool_2", "a.b": "a.b", "a b": "a%20b", "": "%"} {
		if got := keySafe(name); got != want {
			t.Errorf("%q: got %q, want %q", name, got, want)
		}
	}
}

func requireElement(t *testing.T, name, key string) {
	t.Helper()
	if key == "" || len(key) > longestElement || !isPortable(key) || key[0] == '.' ||
		strings.Trim(key, "abcdefghijklmnopqrstuvwxyzABCDEF0123456789-_.%") != "" {
		t.Errorf("%.60q: the key is %q", name, key)
	}
}

// FuzzKeys checks that keys fit every storage and that no two names share a key, even where
// case is ignored.
func FuzzKeys(f *testing.F) {
	for i, name := range hostileNames {
		f.Add(name, hostileNames[(i+1)%len(hostileNames)])
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		requireElement(t, a, keySafe(a))
		if a != b && strings.EqualFold(keySafe(a), keySafe(b)) {
			t.Errorf("%q and %q have the keys %q and %q", a, b, keySafe(a), keySafe(b))
		}
		if got := renewed(escapeElement(a)); got != keySafe(a) {
			t.Errorf("%q: the former key is renewed to %q, not %q", a, got, keySafe(a))
		}
		if got := renewed(keySafe(a)); got != keySafe(a) {
			t.Errorf("%q: the key is renewed to %q", a, got)
		}
	})
}

// saveFormerly stores calls under the keys of earlier versions.
func saveFormerly(t *testing.T, m Storage, pool, instance string, calls int, now time.Time) {
	t.Helper()
	k := NewKeeper(m, "failover", pool, instance)
	k.place = k.former
	saveCalls(t, k, calls, now)
}

func saveCalls(t *testing.T, k *Keeper, calls int, now time.Time) {
	t.Helper()
	h := new(History)
	for range calls {
		h.Pool().Record(now, ok(time.Millisecond))
	}
	if _, err := k.Save(t.Context(), h, now); err != nil {
		t.Fatal(err)
	}
}

func callsOf(h *History, now time.Time) uint64 {
	return h.Pool().Counts(now, now.Add(-30*24*time.Hour), now.Add(time.Minute)).Calls
}

// TestKeeperReadsFormerKeys checks that history under former keys is loaded, continues
// under the current keys, and counts once.
func TestKeeperReadsFormerKeys(t *testing.T) {
	for _, pool := range []string{"LLM", strings.Repeat("中", 10), "llm"} {
		for _, instance := range []string{"one", "HOST"} {
			m := memory{}
			saveFormerly(t, m, pool, instance, 10, noon)
			saveFormerly(t, m, pool, "Other", 100, noon)
			k, h := NewKeeper(m, "failover", pool, instance), new(History)
			if _, err := k.Load(t.Context(), h, noon.Add(time.Minute)); err != nil || callsOf(h, noon) != 10 {
				t.Fatalf("%s of %s: %d calls, %v", instance, pool, callsOf(h, noon), err)
			}
			h.Pool().Record(noon.Add(time.Minute), ok(time.Millisecond))
			if _, err := k.Save(t.Context(), h, noon.Add(time.Minute)); err != nil {
				t.Fatal(err)
			}
			again := new(History)
			k = NewKeeper(m, "failover", pool, instance)
			if _, err := k.Load(t.Context(), again, noon.Add(2*time.Minute)); err != nil || callsOf(again, noon) != 11 {
				t.Errorf("%s of %s, again: %d calls, %v", instance, pool, callsOf(again, noon), err)
			}
			for _, upgraded := range []bool{false, true} {
				if upgraded {
					other := NewKeeper(m, "failover", pool, "Other")
					loaded := new(History)
					if _, err := other.Save(t.Context(), loaded, noon.Add(3*time.Minute)); err != nil || callsOf(loaded, noon) != 100 {
						t.Fatalf("the other has %d calls, %v", callsOf(loaded, noon), err)
					}
				}
				others, warnings, err := k.Others(t.Context())
				if err != nil || len(warnings) > 0 || len(others) != 1 {
					t.Fatalf("%s of %s: %d others, %v, %v", instance, pool, len(others), warnings, err)
				}
				rep := NewReport(Query{From: noon.Add(-time.Hour), To: noon.Add(time.Hour), Now: noon.Add(5 * time.Minute)}, others...)
				if rep.Total.Calls != 100 {
					t.Errorf("%s of %s: the other has %d calls", instance, pool, rep.Total.Calls)
				}
			}
			if _, err := k.Prune(t.Context(), noon.Add(41*24*time.Hour)); err != nil {
				t.Fatal(err)
			}
			for key := range m {
				if !strings.HasPrefix(key, k.place.pool+"/"+k.place.instance+"/") {
					t.Errorf("%s of %s: %s is left", instance, pool, key)
				}
			}
		}
	}
}

// TestKeeperMovesInTheMiddle checks that a crash between the two writes of the first save
// loses nothing.
func TestKeeperMovesInTheMiddle(t *testing.T) {
	m := memory{}
	saveFormerly(t, m, "LLM", "one", 10, noon)
	saveFormerly(t, m, "LLM", "one", 0, noon.Add(2*time.Hour))
	k, h := NewKeeper(m, "failover", "LLM", "one"), new(History)
	if _, err := k.Save(t.Context(), h, noon.Add(2*time.Hour+time.Minute)); err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"recent.0", "past.0"} {
		torn := memory{}
		for key, value := range m {
			if !strings.HasPrefix(key, k.place.pool+"/") || !strings.HasSuffix(key, part) {
				torn[key] = value
			}
		}
		back := new(History)
		if _, err := NewKeeper(torn, "failover", "LLM", "one").Load(t.Context(), back, noon.Add(3*time.Hour)); err != nil || callsOf(back, noon.Add(2*time.Hour)) != 10 {
			t.Errorf("without %s: %d calls, %v", part, callsOf(back, noon.Add(2*time.Hour)), err)
		}
	}
}

// shortNames is a storage that rejects elements longer than 255 bytes, as file systems do.
type shortNames struct{ memory }

func (m shortNames) check(key string) error {
	if slices.ContainsFunc(strings.Split(key, "/"), func(e string) bool { return len(e) > 255 }) {
		return fmt.Errorf("%.20s...: file name too long", key)
	}
	return nil
}

func (m shortNames) Store(ctx context.Context, key string, value []byte) error {
	if err := m.check(key); err != nil {
		return err
	}
	return m.memory.Store(ctx, key, value)
}

func (m shortNames) Load(ctx context.Context, key string) ([]byte, error) {
	if err := m.check(key); err != nil {
		return nil, err
	}
	return m.memory.Load(ctx, key)
}

func (m shortNames) List(ctx context.Context, prefix string, recursive bool) ([]string, error) {
	if err := m.check(prefix); err != nil {
		return nil, err
	}
	return m.memory.List(ctx, prefix, recursive)
}

func TestKeeperOfLongNames(t *testing.T) {
	for _, name := range hostileNames {
		m := shortNames{memory{}}
		saveCalls(t, NewKeeper(m, "failover", name, name), 3, noon)
		saveCalls(t, NewKeeper(m, "failover", name, "another"), 4, noon)
		k, h := NewKeeper(m, "failover", name, name), new(History)
		if _, err := k.Load(t.Context(), h, noon); err != nil || callsOf(h, noon) != 3 {
			t.Errorf("%.40q: %d calls, %v", name, callsOf(h, noon), err)
		}
		if others, warnings, err := k.Others(t.Context()); err != nil || len(others) != 1 || len(warnings) > 0 {
			t.Errorf("%.40q: %d others, %v, %v", name, len(others), warnings, err)
		}
		if _, err := k.Prune(t.Context(), noon); err != nil {
			t.Errorf("%.40q: %v", name, err)
		}
	}
}
