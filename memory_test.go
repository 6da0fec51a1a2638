package failover

import (
	"strings"
	"testing"

	"github.com/apifailover/caddy-failover/internal/memory"
)

// TestNewestAppLimitsTheMemory checks that an App that stops after a newer one has started, as in a
// reload, changes nothing, and that the default returns without an App.
func TestNewestAppLimitsTheMemory(t *testing.T) {
	first, second, third := &App{Memory: 2 << 20}, &App{Memory: 3 << 20}, new(App)
	for i, step := range []struct {
		do   func() error
		want int64
	}{
		{first.Start, 2 << 20},
		{second.Start, 3 << 20},
		{first.Stop, 3 << 20},
		{second.Stop, memory.Default()},
		{first.Start, 2 << 20},
		{third.Start, memory.Default()},
		{first.Stop, memory.Default()},
		{third.Stop, memory.Default()},
	} {
		if err := step.do(); err != nil {
			t.Fatal(err)
		}
		if got := memory.Bodies.Limit(); got != step.want {
			t.Errorf("step %d: the limit is %d, want %d", i, got, step.want)
		}
	}
}

func TestWrongMemoryIsRefused(t *testing.T) {
	for block, want := range map[string]string{
		"failover {\n memory\n}":                    "want one size",
		"failover {\n memory 1 2\n}":                "want one size",
		"failover {\n memory lots\n}":               `Caddyfile:3`,
		"failover {\n memory -1MiB\n}":              `"-1MiB"`,
		"failover {\n memory 10KiB\n}":              "at least 1MiB",
		"failover {\n memory 0\n}":                  "at least 1MiB",
		"failover {\n memory 2MiB\n memory 3MiB\n}": "twice",
		"failover {\n memories 2MiB\n}":             `"memories"`,
		"failover 2MiB":                             `"2MiB"`,
		"failover\nfailover":                        "twice",
	} {
		if _, err := tryAdapt("{\n" + block + "\n}"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", block, err, want)
		}
	}
	if err := (&App{Memory: 100}).Validate(); err == nil {
		t.Error("100 bytes are valid")
	}
}
