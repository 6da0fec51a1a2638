package command

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/apifailover/caddy-failover/internal/api"
	"github.com/apifailover/caddy-failover/internal/event"
	"github.com/apifailover/caddy-failover/internal/incident"
)

// names are names that are difficult for tables.
var names = []string{
	"one", "a-name-that-is-as-long-as-names-of-deployments-are-2026-11-28", strings.Repeat("x", 200),
	"模型服务一号模型服务一号模型服务一号模型服务一号模型服务一号", "with spaces in it and more of them than one would like to see",
	"éclair", "🚀 rocket",
}

// fitting checks that all lines fit into columns and end without spaces.
func fitting(t *testing.T, what, text string, columns int) {
	t.Helper()
	for _, line := range strings.Split(text, "\n") {
		if n := columnsOf(line); n > columns {
			t.Errorf("%s, %d columns: %d in %q", what, columns, n, line)
		}
		if line != strings.TrimRight(line, " ") {
			t.Errorf("%s: spaces at the end of %q", what, line)
		}
	}
}

// pools returns pools in trouble whose endpoints have these names.
func pools(now time.Time) (all []api.PoolStatus) {
	for _, pool := range names {
		p := api.PoolStatus{Name: pool, Down: pool == "one", CallsPerSecond: 12345.6, RetriesDenied: 1234567,
			Incident: &incident.Incident{Start: now.Add(-time.Hour), Kind: incident.Down, Cause: "503 from POST /" + strings.Repeat("y", 100), Failed: 123456, Saved: 1234567}}
		for i, name := range names {
			e := api.EndpointStatus{Name: name, Priority: 1, Weight: 100, State: []string{"closed", "open", "recovering", "forced_open"}[i%4],
				Since: now, Until: now.Add(time.Minute), Reason: "consecutive_failures", Traffic: 0.123, Share: 1, Score: 0.5, InFlight: 12345,
				Successes: 1234567890, Failures: 123456789, Cancelled: 123456, Latency: &api.LatencyStatus{P50: 0.1234, P99: 12.34}}
			if i%2 == 1 {
				e.Cause = &api.FailureStatus{What: "certificate has expired", Method: "POST", Path: "/" + strings.Repeat("z", 90)}
				e.HeldUntil = now.Add(time.Hour)
			}
			p.Endpoints = append(p.Endpoints, e)
		}
		all = append(all, p)
	}
	return all
}

// TestAllFitsTheWidth checks that every line fits, with any names, with colours and without.
func TestAllFitsTheWidth(t *testing.T) {
	now := time.Now()
	for _, columns := range []int{leastColumns, 60, 80, 81, 100, 132, 250} {
		for _, colours := range []bool{false, true} {
			l := layout{columns, colours}
			all := pools(now)
			fitting(t, "status", l.status(all, now), max(columns, 50)) // its remaining columns take 50
			fleet := &api.FleetStatus{Name: strings.Repeat("f", 90)}
			for _, name := range names {
				fleet.Instances = append(fleet.Instances, api.InstanceStatus{Name: name, Release: "v0.1.0", Seen: now, Open: []api.OpenStatus{{Pool: name, Endpoint: name, State: "open"}}})
			}
			fitting(t, "fleet", l.fleet(fleet, now), columns)
			var incidents []incident.Incident
			for _, p := range all {
				if columns >= 80 {
					for _, line := range strings.Split(l.why(&p, now, nil), "\n") {
						if !strings.Contains(line, "'") && !strings.HasSuffix(line, `\`) && !strings.HasPrefix(line, "          ") { // a word of a command is never broken
							fitting(t, "why", line, columns)
						}
					}
				}
				i := *p.Incident
				i.Pool = p.Name
				for _, name := range names {
					i.Endpoints = append(i.Endpoints, incident.Endpoint{Name: name})
				}
				incidents = append(incidents, i)
				for _, kind := range []string{event.BreakerOpened, event.Failover, event.IncidentOver} {
					fitting(t, "events", l.event(&event.Event{At: now, Kind: kind, Pool: p.Name, Endpoint: p.Name, To: p.Name, Reason: "consecutive_failures", Count: 12,
						Details: map[string]any{"cause": "503", "path": "/" + strings.Repeat("z", 90), "until": now.Format(time.RFC3339Nano), "failures": 12345, "note": strings.Join(names, " ")}}), columns)
				}
			}
			if columns >= 60 {
				fitting(t, "incidents", l.incidents(incidents), columns)
			}
		}
	}
}

// TestColoursAreOnlyColours checks that colours change nothing else in a text.
func TestColoursAreOnlyColours(t *testing.T) {
	now := time.Now()
	for _, p := range pools(now) {
		all := []api.PoolStatus{p}
		with, without := layout{80, true}, layout{80, false}
		for _, pair := range [][2]string{
			{with.status(all, now), without.status(all, now)}, {with.why(&p, now, nil), without.why(&p, now, nil)},
		} {
			plain := pair[0]
			for _, c := range []colour{bold, faint, red, green, yellow} {
				plain = strings.ReplaceAll(plain, "\x1b["+string(c)+"m", "")
			}
			if plain = strings.ReplaceAll(plain, "\x1b[0m", ""); plain != pair[1] {
				t.Errorf("with colours:\n%s\nwithout:\n%s", plain, pair[1])
			}
			if plain == pair[0] {
				t.Error("there are no colours")
			}
		}
	}
}

// TestColumnsOf checks that wide characters take two columns, and marks and colours none.
func TestColumnsOf(t *testing.T) {
	for text, want := range map[string]int{"": 0, "one": 3, "模型": 4, "éa": 2, "\x1b[1;31mDOWN\x1b[0m": 4, "ｆ": 2, "é": 1, "🚀": 2} {
		if got := columnsOf(text); got != want {
			t.Errorf("%q takes %d columns, want %d", text, got, want)
		}
	}
}

// TestLongCommandContinuesForAShell checks that a command that is too long for a line can be copied to a
// shell.
func TestLongCommandContinuesForAShell(t *testing.T) {
	l := layout{columns: 80}
	command := []string{"caddy", "failover", "reset", "api", "one"}
	if got := l.suggest(command, ", if you know that it is well"); got != "    to change that: caddy failover reset api one, if you know that it is well\n" {
		t.Errorf("got %q", got)
	}
	command[3], command[4] = strings.Repeat("p", 40), quoted("it's "+strings.Repeat("e", 40))
	want := fmt.Sprintf("    if you know that it is well, this changes that:\n        caddy failover reset %s \\\n          %s\n", command[3], command[4])
	if got := l.suggest(command, ", if you know that it is well"); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

// TestWidthWithoutATerminal checks that the width is COLUMNS, or 80.
func TestWidthWithoutATerminal(t *testing.T) {
	for columns, want := range map[string]int{"": 80, "x": 80, "-1": 80, "132": 132, "5": leastColumns} {
		t.Setenv("COLUMNS", columns)
		file, err := os.Open(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		if got := layoutOf(file); got != (layout{columns: want}) {
			t.Errorf("COLUMNS=%s: %+v", columns, got)
		}
		file.Close()
	}
}
