//go:build system

package e2e

import (
	"encoding/json"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// chances map the parts of the command's output that differ from run to run to fixed texts.
var chances = []struct {
	is    *regexp.Regexp
	shown string
}{
	{regexp.MustCompile(`\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d| \S+)`), "TIME"},
	{regexp.MustCompile(`[0-9.]+(µs|ms|s) behind`), "LAG behind"},
	{regexp.MustCompile(`duration_seconds=[0-9.e-]+`), "duration_seconds=N"},
	{regexp.MustCompile(`(?m)^(  edge-\d) +\S+ +(this one|\d+s ago) +`), "$1  RELEASE  $2  "},
	{regexp.MustCompile(`\d+s ago`), "AGO"},
	{regexp.MustCompile(`  x\d+  `), "  "}, // how many events of a second are one
	{regexp.MustCompile(`INSTANCE  VERSION +SEEN +OUT`), "INSTANCE  VERSION  SEEN  OUT"},
}

func withoutChance(text string) string {
	for _, c := range chances {
		text = c.is.ReplaceAllString(text, c.shown)
	}
	return text
}

// eventsAsJSON returns the events of an instance that the command prints with --json, without times, sorted.
func eventsAsJSON(t *testing.T, e *edgeCaddy, instance string, args ...string) (events []string) {
	t.Helper()
	_, out, _ := e.command(append([]string{"events", "--json"}, args...)...)
	for line := range strings.Lines(out) {
		var one map[string]any
		if err := json.Unmarshal([]byte(line), &one); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if from, named := one["instance"]; named && from != instance {
			continue
		}
		delete(one, "instance")
		delete(one, "at") // an age is told
		text, err := json.Marshal(one)
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, string(text))
	}
	slices.Sort(events)
	return events
}

// sameLines wants a text with these lines, in any order, each once or more often.
func sameLines(t *testing.T, got, want string) {
	t.Helper()
	sorted := func(text string) []string { return slices.Compact(slices.Sorted(strings.Lines(text))) }
	if !slices.Equal(sorted(got), sorted(want)) {
		t.Errorf("the lines are\n%s\nwant\n%s", got, want)
	}
}

// fleetCommands runs the command in a fleet of three, of which the first has opened both endpoints, the second
// has opened one, and the third none.
func fleetCommands(t *testing.T, edges []*edgeCaddy) {
	t.Helper()
	t.Setenv("COLUMNS", "250")
	want := func(e *edgeCaddy, code int, want string, args ...string) {
		t.Helper()
		got, out, errs := e.command(args...)
		if text := withoutChance(out + errs); got != code || text != want {
			t.Errorf("caddy failover %s: %d\n%s\nwant %d\n%s", strings.Join(args, " "), got, text, code, want)
		}
	}
	var status string
	everywhere(t, "all know who has opened what", edges, func(e *edgeCaddy) bool {
		_, status, _ = e.command("status", "--fleet")
		return strings.HasSuffix(status, "\napi/one: open at 2 of 3\napi/two: open at 1 of 3\n")
	})
	lines := strings.Split(status, "\n")
	for _, line := range []string{lines[2], lines[3], lines[5]} { // the instances
		for _, column := range []string{"VERSION", "SEEN", "OUT"} {
			if at := strings.Index(lines[1], column); line[at-1] != ' ' || line[at] == ' ' {
				t.Errorf("the column %s is not aligned:\n%s", column, status)
			}
		}
	}
	want(edges[2], exitDone, `fleet test: connected, LAG behind, 3 instances
  INSTANCE  VERSION  SEEN  OUT
  edge-3  RELEASE  this one  0
  edge-1  RELEASE  AGO  2
    out: api/one, api/two
  edge-2  RELEASE  AGO  1
    out: api/one
api/one: open at 2 of 3
api/two: open at 1 of 3
`, "status", "--fleet")
	want(edges[0], exitDone, `fleet test: connected, LAG behind, 3 instances
  INSTANCE  VERSION  SEEN  OUT
  edge-1  RELEASE  this one  2
    out: api/one, api/two
  edge-2  RELEASE  AGO  1
    out: api/one
  edge-3  RELEASE  AGO  0
api/one: open at 2 of 3
api/two: open at 1 of 3
`, "status", "--fleet")
	want(edges[2], exitError, "caddy failover: --fleet shows the whole fleet once: leave --watch, --check and the pool out\n", "status", "--fleet", "--watch")

	var out string
	eventually(t, "its events are known", func() bool {
		_, out, _ = edges[2].command("events", "--fleet")
		return strings.Contains(out, "edge-2: api/one  consecutive_failures")
	})
	// The control loop may see that all are out before the call that opened the last one tells of it. There is a second line
	// of failovers after a second.
	sameLines(t, withoutChance(out), `TIME  failover        edge-1: api/one -> two  dial  connection refused from GET /  attempt=1  duration_seconds=N
TIME  breaker_opened  edge-1: api/one  consecutive_failures  connection refused from GET /  failing_since=TIME  failures=5  relapses=0  until=TIME
TIME  breaker_opened  edge-1: api/two  consecutive_failures  connection refused from GET /  failing_since=TIME  failures=5  relapses=0  until=TIME
TIME  all_down        edge-1: api  breaker  causes=one: connection refused from GET /; two: connection refused from GET /  endpoints=2
TIME  failover        edge-2: api/one -> two  status  503 from GET /  attempt=1  duration_seconds=N
TIME  breaker_opened  edge-2: api/one  consecutive_failures  503 from GET /  failing_since=TIME  failures=5  relapses=0  until=TIME
`)
	want(edges[2], exitDone, "", "events") // none of its own
	var here, there []string
	failovers := regexp.MustCompile(`"count":(\d+),.*"kind":"failover"`)
	defer func() {
		if t.Failed() {
			t.Logf("events as JSON at another instance:\n%s\nand at its own\n%s", strings.Join(there, "\n"), strings.Join(here, "\n"))
		}
	}()
	eventually(t, "another instance has all events, of five failovers and three others", func() bool {
		here, there = eventsAsJSON(t, edges[0], "edge-1", "--pool", "api"), eventsAsJSON(t, edges[2], "edge-1", "--pool", "api", "--fleet")
		moved, others := 0, 0
		for _, e := range here {
			if match := failovers.FindStringSubmatch(e); match != nil {
				n, _ := strconv.Atoi(match[1])
				moved += n
			} else {
				others++
			}
		}
		return moved == 5 && others == 3 && slices.Equal(here, there)
	})

	want(edges[1], exitDone, "api/two is drained, no request is in flight; the fleet was told\n", "drain", "two", "--reason", "moving")
	drains := func(e *edgeCaddy) bool { return e.one("two").Draining }
	everywhere(t, "all drain", edges, drains)
	if s := edges[2].one("two"); s.Operator == nil || s.Operator.Reason != "moving" {
		t.Errorf("at another instance: %+v", s.Operator)
	}
	want(edges[2], exitDone, "api/two is in service; the fleet was told\n", "enable", "two", "--fleet")
	everywhere(t, "none drains", edges, func(e *edgeCaddy) bool { return !drains(e) })
	want(edges[1], exitDone, "api/two is drained, no request is in flight\n", "drain", "two", "--here")
	want(edges[1], exitDone, "api/one has weight 3 instead of 1; priority 1; the fleet was told\n", "set", "one", "--weight", "3")
	everywhere(t, "what was told later is known", edges, func(e *edgeCaddy) bool { return e.one("one").Weight == 3 })
	if slices.ContainsFunc([]*edgeCaddy{edges[0], edges[2]}, drains) || !drains(edges[1]) {
		t.Error("drain --here is not an order for one instance")
	}
	want(edges[1], exitDone, "api/two is in service\n", "enable", "two", "--here")
	want(edges[1], exitDone, "api/one has weight 1; priority 1; the fleet was told\n", "set", "one", "--weight", "configured")
	want(edges[1], exitError, "caddy failover: --fleet and --here contradict each other\n", "drain", "two", "--here", "--fleet")
	if drains(edges[1]) {
		t.Error("it drains although the command failed")
	}
}
