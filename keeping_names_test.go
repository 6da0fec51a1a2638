package failover

import (
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"

	"github.com/apifailover/caddy-failover/internal/sla"
)

// TestHistoryOfAnyName: the history of a pool is kept in files whatever its name.
func TestHistoryOfAnyName(t *testing.T) {
	storage := &certmagic.FileStorage{Path: t.TempDir()}
	now := time.Now()
	names := []string{strings.Repeat("模", 29), "llm", "LLM", "../../llm", "con", "a/b", "a.", strings.Repeat("x", 300)}
	for i, name := range names {
		var h sla.History
		for range i + 1 {
			h.Pool().Record(now, sla.Outcome{Latency: time.Millisecond})
		}
		if warnings, err := sla.NewKeeper(storage, storagePrefix, name, "one").Save(t.Context(), &h, now); err != nil || len(warnings) > 0 {
			t.Errorf("%.40q: %v, %v", name, warnings, err)
		}
	}
	for i, name := range names {
		var h sla.History
		warnings, err := sla.NewKeeper(storage, storagePrefix, name, "one").Load(t.Context(), &h, now)
		calls := h.Pool().Counts(now, now.Add(-time.Hour), now.Add(time.Minute)).Calls
		if err != nil || len(warnings) > 0 || calls != uint64(i+1) {
			t.Errorf("%.40q: %d calls, %v, %v", name, calls, warnings, err)
		}
	}
}
