package notify

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apifailover/caddy-failover/internal/event"
)

// TestEveryEventCanBeANotice checks that every event in docs/events.md can cause a notice, and has a
// headline of its own.
func TestEveryEventCanBeANotice(t *testing.T) {
	text, err := os.ReadFile("../docs/events.md")
	if err != nil {
		t.Fatal(err)
	}
	table, _, _ := strings.Cut(string(text), "\n## ")
	var listed []string
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z_]+)`(?:, `([a-z_]+)`)? \\|").FindAllStringSubmatch(table, -1) {
		for _, kind := range m[1:] {
			if kind != "" && !slices.Contains(listed, kind) {
				listed = append(listed, kind)
			}
		}
	}
	for _, kind := range listed {
		if !slices.Contains(kinds, kind) {
			t.Errorf("on cannot have the event %s", kind)
		}
	}
	seen := map[string]string{}
	for _, kind := range kinds {
		if !slices.Contains(listed, kind) {
			t.Errorf("docs/events.md does not list the event %s", kind)
		}
		n := &news{on: []string{kind}, pools: map[string]*story{}}
		n.take(event.Event{Kind: kind, Pool: "llm", Endpoint: "one", To: "two", Reason: "why", Incident: 1, Count: 1, Details: map[string]any{"fleet": "edge", "cause": "503"}}, epoch)
		s, _ := n.next()
		if s == nil {
			t.Errorf("%s is no news", kind)
			continue
		}
		line, rest, _ := strings.Cut(s.notice(s.startSending(), nil).Text, "\n")
		if seen[line] != "" || line == "" || rest == "" {
			t.Errorf("%s: %q, as of %s", kind, line, seen[line])
		}
		seen[line] = kind
	}
}

func TestDurationsForPeople(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", 1234 * time.Millisecond: "1.2s", 61 * time.Second: "1m1s", time.Hour: "1h", 90 * time.Minute: "1h30m", 24*time.Hour + 4*time.Second: "24h0m4s",
	} {
		if got := rounded(d); got != want {
			t.Errorf("%v is %s, want %s", d, got, want)
		}
	}
}
