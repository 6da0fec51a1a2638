package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"
)

// The exit codes of the command.
const (
	exitDone = iota
	exitError
	exitUnreachable
	exitUnknown
	exitRefused
	exitDegraded
	exitDown
	exitInFlight
)

// actAsCaddy is an environment variable. If it is set, the test binary runs as caddy, with the arguments in the
// variable, one a line.
const actAsCaddy = "FAILOVER_TEST_CADDY_ARGUMENTS"

func init() {
	if arguments, ok := os.LookupEnv(actAsCaddy); ok {
		os.Args = append([]string{"caddy"}, strings.Split(arguments, "\n")...)
		caddycmd.Main()
		os.Exit(0)
	}
}

// caddyProcess runs the caddy command in a process of its own.
func caddyProcess(t testing.TB, args ...string) (code int, out, errors string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), actAsCaddy+"="+strings.Join(args, "\n"))
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatalf("running caddy %q: %v", args, err)
	}
	return cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()
}

// A screen keeps what is written to it. It may be read meanwhile.
type screen struct {
	mu   sync.Mutex
	text strings.Builder
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// runCommand runs caddy failover in this process until it ends or ctx is done, and returns its exit code.
func runCommand(ctx context.Context, t testing.TB, out, errors io.Writer, args ...string) (code int) {
	t.Helper()
	root := &cobra.Command{Use: "failover"}
	caddycmd.Commands()["failover"].CobraFunc(root)
	root.SetArgs(args)
	root.SetOut(out)
	root.SetErr(errors)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitDone
	}
	if _, err := fmt.Sscanf(err.Error(), "exiting with status %d", &code); err == nil {
		return code
	}
	return exitError
}

// at returns the arguments with the address of the admin endpoint.
func (p *proxy) at() []string { return []string{"--address", "unix/" + p.file("admin")} }

// command runs caddy failover against the admin endpoint.
func (p *proxy) command(args ...string) (code int, out, errors string) {
	p.t.Helper()
	var stdout, stderr screen
	code = runCommand(p.t.Context(), p.t, &stdout, &stderr, append(args, p.at()...)...)
	return code, stdout.String(), stderr.String()
}

func TestCommandStatus(t *testing.T) {
	t.Setenv("COLUMNS", "150")
	one, two := newAPI(t, "one"), newAPI(t, "two")
	p := startCaddy(t, site("\tbreaker {\n\t\tconsecutive_failures 1\n\t\topen_for 1m\n\t}", one, two))
	p.get()
	code, out, errs := p.command("status", "--check")
	if code != exitDone || errs != "" {
		t.Errorf("all well: %d %s", code, errs)
	}
	lines := strings.Split(out, "\n")
	if len(lines) != 5 || !strings.HasPrefix(lines[0], "pool api: up, ") {
		t.Fatalf("got %q", lines)
	}
	row := regexp.MustCompile(`^  one +1 +1 +in service +100% +100% +1\.00 +0 +1 +0 +0 +\S+ +\S+ *$`)
	if !row.MatchString(lines[2]) {
		t.Errorf("the row of one is %q", lines[2])
	}
	for _, column := range []string{"STATE", "TRAFFIC", "IN FLIGHT", "CANCELLED"} {
		at := strings.Index(lines[1], column)
		if at < 0 || lines[2][at-1] != ' ' || lines[2][at] == ' ' || lines[3][at-1] != ' ' || lines[3][at] == ' ' {
			t.Errorf("the column %s is not aligned:\n%s", column, out)
		}
	}

	one.answer(http.StatusServiceUnavailable)
	p.get()
	eventually(t, "one gets no traffic", func() bool { return p.endpoint("api", "one").Traffic == 0 })
	code, out, _ = p.command("status", "api", "--check")
	if code != exitDegraded || !strings.Contains(out, "breaker open: failures in a row, tried again in ") {
		t.Errorf("one is out: %d %s", code, out)
	}
	if code, _, _ = p.command("status"); code != exitDone {
		t.Errorf("without --check: %d", code)
	}
	two.answer(http.StatusServiceUnavailable)
	p.get()
	eventually(t, "the pool is down", func() bool {
		code, out, _ = p.command("status", "--check")
		return code == exitDown
	})
	if !strings.Contains(out, "pool api: DOWN") {
		t.Errorf("the pool is down: %s", out)
	}
	var all []poolStatus
	if code, out, _ = p.command("status", "--json"); code != exitDone || json.Unmarshal([]byte(out), &all) != nil || len(all) != 1 || len(all[0].Endpoints) != 2 {
		t.Errorf("as JSON: %d %s", code, out)
	}
	var pool poolStatus
	if code, out, _ = p.command("status", "api", "--json"); code != exitDone || json.Unmarshal([]byte(out), &pool) != nil || pool.Name != "api" {
		t.Errorf("one pool as JSON: %d %s", code, out)
	}
	if code, _, errs = p.command("status", "other"); code != exitUnknown || errs != "caddy failover: there is no pool \"other\"; there are \"api\"\n" {
		t.Errorf("an unknown pool: %d %s", code, errs)
	}
	if code, _, _ = p.command("status", "--interval", "1ms", "--watch"); code != exitError {
		t.Errorf("an interval that is too short: %d", code)
	}
}

// TestCommandWhy checks that the command explains an endpoint that is out, with the cause and what to do, and that
// a pool without problems takes one line.
func TestCommandWhy(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	p := startCaddy(t, site("\tbreaker {\n\t\tconsecutive_failures 1\n\t\topen_for 1m\n\t}", one, two))
	p.get()
	if code, out, errs := p.command("why"); code != exitDone || errs != "" || out != "pool api is well: its 2 endpoints take their traffic\n" {
		t.Errorf("all well: %d %q %s", code, out, errs)
	}
	one.answer(http.StatusServiceUnavailable)
	p.call(http.MethodGet, "/v1/chat?key=secret", "")
	p.becomes("one", "open")
	_, out, _ := p.command("why", "api")
	for _, want := range []string{"pool api serves, but not with all endpoints\n", "\n  one\n    out since ", "    cause: 503 from GET /v1/chat", "its breaker is open: failures in a row", "it is tried again within ", "what helps: look at its log", "if you know that it is well, this changes that:\n        caddy failover reset api one --address "} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if strings.Contains(out, "secret") || strings.Contains(out, "\n  two\n") {
		t.Errorf("a credential or the working endpoint is shown:\n%s", out)
	}
	for _, line := range strings.Split(out, "\n") {
		if len(line) > 120 {
			t.Errorf("a long line: %s", line)
		}
	}
	p.command("drain", "api", "two", "--for", "10m", "--reason", "upgrade")
	eventually(t, "the pool is down", func() bool { return p.pool("api").Down })
	_, out, _ = p.command("why")
	for _, want := range []string{"pool api is DOWN: no endpoint takes requests\n", "\n  two\n    drained by an operator since ", ": upgrade\n", "caddy failover enable api two --address "} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
}

// TestCommandCompletes checks that shell completion offers the names of pools and endpoints.
func TestCommandCompletes(t *testing.T) {
	p := startCaddy(t, site("", newAPI(t, "one"), newAPI(t, "two")))
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"status", ""}, "api\n"},
		{[]string{"why", ""}, "api\n"},
		{[]string{"drain", ""}, "one\ntwo\napi\n"},
		{[]string{"drain", "api", ""}, "one\ntwo\n"},
		{[]string{"events", "--pool", ""}, "api\n"},
		{[]string{"incidents", "--pool", ""}, "api\n"},
		{[]string{"report", "--format", "csv", "--pool", ""}, "api\n"},
		{[]string{"report", "--format", ""}, "md\nhtml\njson\ncsv\n"},
		{[]string{"report", "--lang", ""}, "en\nzh\n"},
	} {
		args := append([]string{"__complete"}, test.args[:1]...)
		args = append(append(args, p.at()...), test.args[1:]...)
		var out, errs screen
		runCommand(t.Context(), t, &out, &errs, args...)
		if got := out.String(); !strings.HasPrefix(got, test.want) {
			t.Errorf("completing %q: got %q (%s)", test.args, got, errs.String())
		}
	}
}

func TestCommandWatches(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	p := startCaddy(t, site("", one, two))
	ctx, cancel := context.WithCancel(t.Context())
	var out, errs screen
	done := make(chan int)
	go func() {
		done <- runCommand(ctx, t, &out, &errs, "status", "--watch", "--interval", "100ms", "--address", "unix/"+p.file("admin"))
	}()
	eventually(t, "it shows the pool", func() bool { return strings.Contains(out.String(), "in service") })
	p.reload(site("\tbalance least_latency", one, two))
	p.order(http.MethodPost, "api/endpoints/one/drain", `{"reason":"an upgrade"}`)
	eventually(t, "it shows the drain", func() bool { return strings.Contains(out.String(), "operator: drain (an upgrade)") })
	cancel()
	if code := <-done; code != exitDone {
		t.Errorf("interrupted: %d %s", code, errs.String())
	}
}

func TestCommandOrders(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	p := startCaddy(t, site("", one, two))
	hold := make(chan struct{})
	one.behave(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		http.NewResponseController(w).Flush()
		<-hold
	})
	resp, err := p.do(http.MethodGet, "/", nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args  []string
		code  int
		out   string
		state string // of one
	}{
		{[]string{"drain", "api", "one", "--for", "1h", "--reason", "an upgrade"}, exitDone, "api/one is draining, 1 request is in flight, until ", "closed"},
		{[]string{"drain", "one", "--wait", "300ms"}, exitInFlight, "api/one is draining, 1 request is in flight", "closed"},
		{[]string{"trip", "one"}, exitDone, "api/one is tripped, 1 request is in flight", "forced_open"},
		{[]string{"enable", "one"}, exitDone, "api/one is on trial", "recovering"},
		{[]string{"reset", "one"}, exitDone, "api/one is in service", "closed"},
		{[]string{"enable", "one", "--for", "5m"}, exitDone, "api/one is kept in service, until ", "forced_closed"},
		{[]string{"enable", "api", "one"}, exitDone, "api/one is in service", "closed"},
		{[]string{"drain", "three"}, exitUnknown, "", "closed"},
		{[]string{"drain", "other", "one"}, exitUnknown, "", "closed"},
		{[]string{"drain", "one", "--for", "soon"}, exitRefused, "", "closed"},
		{[]string{"reset", "one", "--for", "1h"}, exitError, "", "closed"},
		{[]string{"drain"}, exitError, "", "closed"},
		{[]string{"explode", "one"}, exitError, "", "closed"},
	} {
		code, out, errs := p.command(c.args...)
		if code != c.code || !strings.HasPrefix(out, c.out) || (code != exitDone) != (errs != "") {
			t.Errorf("%q: got %d, %q, %q; want %d, %q", c.args, code, out, errs, c.code, c.out)
		}
		if e := p.endpoint("api", "one"); e.State != c.state {
			t.Errorf("after %q, one is %s, want %s", c.args, e.State, c.state)
		}
	}
	var answer orderAnswer
	code, out, _ := p.command("drain", "one", "--json")
	if code != exitDone || json.Unmarshal([]byte(out), &answer) != nil || answer.Action != "drain" || answer.InFlight != 1 {
		t.Errorf("as JSON: %d %s", code, out)
	}
	close(hold)
	resp.Body.Close()
	if code, _, errs := p.command("drain", "one", "--wait", "10s"); code != exitDone {
		t.Errorf("waited: %d %s", code, errs)
	}
}

func TestCommandSets(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	p := startCaddy(t, site("", one, two))
	for _, c := range []struct {
		args     []string
		code     int
		out      string // begins with
		errs     string
		weight   float64 // of one
		priority int
	}{
		{[]string{"api", "one", "--weight", "2.5", "--reason", "a test"}, exitDone, "api/one has weight 2.5 instead of 1; priority 1\n", "", 2.5, 1},
		{[]string{"one", "--priority", "3", "--for", "1h"}, exitDone, "api/one has weight 2.5 instead of 1; priority 3 instead of 1, until ", "", 2.5, 3},
		{[]string{"one", "--weight", "configured"}, exitDone, "api/one has weight 1; priority 3 instead of 1, until ", "", 1, 3},
		{[]string{"one", "--weight", "0", "--priority", "configured"}, exitDone, "api/one has weight 0 instead of 1; priority 1\n", "", 0, 1},
		{[]string{"one", "--weight", "heavy"}, exitError, "", `--weight: want a number or "configured", not "heavy"`, 0, 1},
		{[]string{"one", "--weight", "NaN"}, exitError, "", `--weight: want a number or "configured", not "NaN"`, 0, 1},
		{[]string{"one", "--priority", ""}, exitError, "", `--priority: want a number or "configured", not ""`, 0, 1},
		{[]string{"one", "--weight", "-1"}, exitRefused, "", "weight: must be 0 or more", 0, 1},
		{[]string{"one", "--priority", "1.5"}, exitRefused, "", "priority: want a whole number or null, not 1.5", 0, 1},
		{[]string{"one", "--priority", "0"}, exitRefused, "", "priority: must be 1 or more", 0, 1},
		{[]string{"one", "--weight", "2", "--for", "soon"}, exitRefused, "", `for: want a duration such as "10m", not "soon"`, 0, 1},
		{[]string{"one", "--weight", "configured", "--for", "1h"}, exitRefused, "", "for: needs a weight or a priority to set", 0, 1},
		{[]string{"one", "--reason", "none"}, exitRefused, "", "weight, priority: at least one of them is needed", 0, 1},
		{[]string{"one", "--wait", "1s"}, exitError, "", "unknown flag: --wait", 0, 1},
		{[]string{"three", "--weight", "2"}, exitUnknown, "", `pool "api" has no endpoint "three"`, 0, 1},
		{[]string{"one", "--weight", "configured"}, exitDone, "api/one has weight 1; priority 1\n", "", 1, 1},
	} {
		code, out, errs := p.command(append([]string{"set"}, c.args...)...)
		if code != c.code || !strings.HasPrefix(out, c.out) || !strings.Contains(errs, c.errs) || (code != exitDone) != (errs != "") {
			t.Errorf("%q: got %d, %q, %q; want %d, %q, %q", c.args, code, out, errs, c.code, c.out, c.errs)
		}
		if e := p.endpoint("api", "one"); e.Weight != c.weight || e.Priority != c.priority {
			t.Errorf("after %q, one has weight %v and priority %d; want %v and %d", c.args, e.Weight, e.Priority, c.weight, c.priority)
		}
	}
	var answer orderAnswer
	code, out, _ := p.command("set", "one", "--weight", "4", "--reason", "a test", "--json")
	if code != exitDone || json.Unmarshal([]byte(out), &answer) != nil || answer.Action != "set" || answer.Status.Override.Weight.Reason != "a test" {
		t.Errorf("as JSON: %d %s", code, out)
	}
}

func TestCommandEvents(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	p := startCaddy(t, site("", one, two))
	p.order(http.MethodPost, "api/endpoints/one/drain", `{"reason":"`+"\\u001b[31mred"+`"}`)
	began := time.Now().Add(-time.Minute).Format(time.RFC3339)
	var out string
	eventually(t, "the command shows the drain", func() bool {
		var code int
		code, out, _ = p.command("events", "--since", began)
		return code == exitDone && strings.Contains(out, "api/one")
	})
	if line := regexp.MustCompile(`(?m)^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} [A-Z]+  operator +api/one  drain  in_flight=0\n    note=\\x1b\[31mred$`); !line.MatchString(out) {
		t.Errorf("got %q", out)
	}

	ctx, cancel := context.WithCancel(t.Context())
	var followed, errs screen
	done := make(chan int)
	go func() {
		done <- runCommand(ctx, t, &followed, &errs, "events", "--follow", "--json", "--pool", "api", "--limit", "1", "--address", "unix/"+p.file("admin"))
	}()
	eventually(t, "it shows the last event", func() bool { return strings.Count(followed.String(), "\n") == 1 })
	for i, action := range []string{"enable", "trip", "reset"} {
		p.reload(site(fmt.Sprintf("\toverflow %d", i+2), one, two))
		p.order(http.MethodPost, "api/endpoints/two/"+action, "")
	}
	reasons := func() (seen []string) {
		for line := range strings.SplitSeq(strings.TrimSpace(followed.String()), "\n") {
			var e event
			if err := json.Unmarshal([]byte(line), &e); err == nil && e.Kind == "operator" {
				seen = append(seen, e.Reason)
			}
		}
		return seen
	}
	eventually(t, "each event is shown once, over three reloads", func() bool {
		return strings.Join(reasons(), " ") == "drain enable trip reset"
	})
	cancel()
	if code := <-done; code != exitDone {
		t.Errorf("interrupted: %d %s", code, errs.String())
	}
	if code, _, errs := p.command("events", "--limit", "0"); code != exitRefused || !strings.Contains(errs, "limit: ") {
		t.Errorf("a bad limit: %d %s", code, errs)
	}
}

// TestCommandFindsCaddy checks that the command finds the admin endpoint as Caddy's own commands do, and says
// clearly if nobody listens there.
func TestCommandFindsCaddy(t *testing.T) {
	nobody := keepPort(t)
	var out, errs screen
	if code := runCommand(t.Context(), t, &out, &errs, "status", "--address", nobody); code != exitUnreachable ||
		!strings.HasPrefix(errs.String(), "caddy failover: no Caddy responds at "+nobody+": ") || out.String() != "" {
		t.Errorf("nobody listens: %d %q %q", code, errs.String(), out.String())
	}
	one, two := newAPI(t, "one"), newAPI(t, "two")
	socket := filepath.Join(t.TempDir(), "a")
	p := startCaddy(t, site("", one, two))
	admin := "admin unix/" + socket + "|0200"
	if err := p.loadWith(admin, site("", one, two)); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(t.TempDir(), "Caddyfile")
	if err := os.WriteFile(config, []byte(p.caddyfile(admin, site("", one, two))), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"--address", "unix/" + socket},
		{"--config", config},
		{"--config", config, "--adapter", "caddyfile"},
	} {
		code, out, errs := caddyProcess(t, append([]string{"failover", "status"}, args...)...)
		if code != exitDone || !strings.Contains(out, "pool api: up") {
			t.Errorf("%q: %d %s %s", args, code, out, errs)
		}
	}
}

// TestCommandExitCodes checks the exit codes of a real process.
func TestCommandExitCodes(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	p := startCaddy(t, site("", one, two))
	for _, c := range []struct {
		args   []string
		code   int
		errors string
	}{
		{[]string{"status"}, exitDone, ""},
		{[]string{"status", "--check"}, exitDone, ""},
		{[]string{"trip", "one", "--for", "-1s"}, exitRefused, "caddy failover: for: must be longer than 0\n"},
		{[]string{"trip", "one"}, exitDone, ""},
		{[]string{"status", "--check"}, exitDegraded, ""},
		{[]string{"trip", "two"}, exitDone, ""},
		{[]string{"status", "--check"}, exitDown, ""},
		{[]string{"status", "other"}, exitUnknown, "caddy failover: there is no pool \"other\"; there are \"api\"\n"},
		{[]string{"status", "a", "b", "c"}, exitError, "Error: want one pool at most, not 3 arguments\n"},
	} {
		code, _, errs := caddyProcess(t, append(append([]string{"failover"}, c.args...), p.at()...)...)
		if code != c.code || errs != c.errors {
			t.Errorf("%q: got %d %q, want %d %q", c.args, code, errs, c.code, c.errors)
		}
	}
}

func TestCommandReports(t *testing.T) {
	one, two := newAPI(t, "one"), newAPI(t, "two")
	p := startCaddy(t, site("", one, two))
	p.counts(3, "/")
	for _, r := range []struct {
		args []string
		code int
		out  string // begins with
		errs string
	}{
		{[]string{}, exitDone, "# ", ""},
		{[]string{"--pool", "api", "--from", "1h", "--format", "html"}, exitDone, "<!", ""},
		{[]string{"--format", "html", "--lang", "en"}, exitDone, "<!DOCTYPE html>\n<html lang=\"en\"", ""},
		{[]string{"--format", "html", "--lang", "zh"}, exitDone, "<!DOCTYPE html>\n<html lang=\"zh-CN\"", ""},
		{[]string{"--format", "html", "--lang", "zh-CN"}, exitDone, "<!DOCTYPE html>\n<html lang=\"zh-CN\"", ""},
		{[]string{"--format", "html", "--lang", "tlh"}, exitRefused, "", "lang: "},
		{[]string{"--lang", "zh"}, exitError, "", "--lang needs --format html"},
		{[]string{"--json", "--lang", "zh"}, exitError, "", "--lang needs --format html"},
		{[]string{"--json"}, exitDone, "{", ""},
		{[]string{"--json", "--format", "md"}, exitError, "", "contradict"},
		{[]string{"--from", "noon"}, exitRefused, "", "from: "},
		{[]string{"--pool", "other"}, exitUnknown, "", `no pool "other"`},
	} {
		code, out, errs := p.command(append([]string{"report"}, r.args...)...)
		if code != r.code || !strings.HasPrefix(out, r.out) || !strings.Contains(errs, r.errs) || r.errs == "" && errs != "" {
			t.Errorf("%q: %d %.80q %q", r.args, code, out, errs)
		}
	}
}
