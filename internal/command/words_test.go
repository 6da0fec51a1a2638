package command

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/apifailover/caddy-failover/internal/api"
	"github.com/apifailover/caddy-failover/internal/breaker"
	"github.com/apifailover/caddy-failover/internal/sla"
)

// TestWordsAreThoseOfThePage checks that each state and reason of a breaker has words, and that the
// dashboard uses the same.
func TestWordsAreThoseOfThePage(t *testing.T) {
	page, err := os.ReadFile("../../web/page/words.js")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("../breaker/breaker.go")
	if err != nil {
		t.Fatal(err)
	}
	english, _, _ := strings.Cut(string(page), "const zh = {")
	same := func(key, words string) {
		t.Helper()
		m := regexp.MustCompile(`(?mi)^  '` + regexp.QuoteMeta(key) + `': '(.*)',$`).FindStringSubmatch(english)
		if m == nil || !strings.EqualFold(m[1], words) {
			t.Errorf("the command says %q for %s, the page %q", words, key, m)
		}
	}
	for _, state := range breaker.StateNames {
		if stateWords[state] == "" {
			t.Errorf("the state %s has no words", state)
		}
		same("state."+state, stateOf(state))
	}
	for name, words := range reasonWords {
		same("reason."+name, words)
	}
	for name, words := range remedies {
		same("remedy."+name, words)
	}
	reasons := regexp.MustCompile(`(?m)^\t[rR]eason\w+ += "(\w+)"`).FindAllStringSubmatch(string(source), -1)
	if len(reasons) < 15 {
		t.Fatalf("only %d reasons were found", len(reasons))
	}
	for _, m := range reasons {
		if reasonWords[m[1]] == "" {
			t.Errorf("the reason %s has no words", m[1])
		}
	}
}

// failing returns an endpoint that is out because of a failure.
func failing(reason, outcome, what string, now time.Time) api.EndpointStatus {
	return api.EndpointStatus{Name: "one", Weight: 1, State: "open", Reason: reason, DownSince: now.Add(-time.Minute), Until: now.Add(2 * time.Second),
		Cause: &api.FailureStatus{Outcome: outcome, What: what, Method: "GET", Path: "/v1", At: now}}
}

// TestWhyGivesAdvice checks that why gives advice for each kind of failure, and commands for the same
// Caddy.
func TestWhyGivesAdvice(t *testing.T) {
	now := time.Now()
	l := layout{columns: 120}
	for _, test := range []struct{ reason, outcome, what, want string }{
		{"consecutive_failures", "dial", "no such host", "DNS"},
		{"consecutive_failures", "dial", "connection refused", "that it runs"},
		{"consecutive_failures", "dial", "network is unreachable", "can reach"},
		{"consecutive_failures", "tls", "certificate has expired", "certificate"},
		{"denied", "denied", "401", "key"},
		{"consecutive_failures", "status", "503", "log"},
		{"failure_ratio", "timeout", "timeout after 2s", "load"},
		{"consecutive_failures", "reset", "connection reset", "connections"},
		{"failure_ratio", "rate_limited", "429", "limit"},
		{"slower_than_usual", "", "no response within 206ms", "load"},
		{"check_failed", "", "status 503", "health check"},
	} {
		e := failing(test.reason, test.outcome, test.what, now)
		text := l.why(&api.PoolStatus{Name: "llm", Endpoints: []api.EndpointStatus{e}}, now, []string{"--address", "localhost:2020"})
		_, help, _ := strings.Cut(text, "what helps: ")
		if help, _, _ = strings.Cut(help, "\n"); !strings.Contains(help, test.want) {
			t.Errorf("%s, %s: the advice is %q, want %q in it", test.reason, test.what, help, test.want)
		}
		if !strings.Contains(text, "caddy failover reset llm one --address localhost:2020") {
			t.Errorf("the command goes to another Caddy:\n%s", text)
		}
		fitting(t, "why", text, 120)
	}
}

// TestWhyOfAHealthyPool checks that why also shows failures of endpoints in service, waiting calls, and
// burning budgets.
func TestWhyOfAHealthyPool(t *testing.T) {
	now := time.Now()
	l := layout{columns: 120}
	p := api.PoolStatus{Name: "llm", Endpoints: []api.EndpointStatus{{Name: "one", State: "closed", Share: 1, Score: 0.8, Weight: 1}}}
	if got, want := l.why(&p, now, nil), "pool llm is well: its endpoint takes its traffic\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	p.Endpoints[0].LastFailure = &api.FailureStatus{Outcome: "status", What: "502", Method: "GET", Path: "/v1", Count: 7, At: now.Add(-3 * time.Second)}
	p.Waiting = &api.WaitingStatus{Calls: 2, Longest: 1.5}
	p.SLA = &api.SLAStatus{Availability: &api.IndicatorStatus{Burning: true, Attainment: sla.Attainment{BudgetLeft: 0.25}}}
	text := l.why(&p, now, nil)
	for _, want := range []string{
		"pool llm is well", "one is in service, but some requests fail: 502 from GET /v1, 7 times, the last 3s ago",
		"2 requests wait, the first for 1.5s", "its error budget for availability burns: 25% left",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	p.Endpoints[0].LastFailure.At = now.Add(-recent - time.Second)
	if text := l.why(&p, now, nil); strings.Contains(text, "some requests fail") {
		t.Errorf("an old failure is shown:\n%s", text)
	}
}

// TestNoScoreWithoutRequests checks that status shows no score of an endpoint or a scope that gets no
// requests.
func TestNoScoreWithoutRequests(t *testing.T) {
	now := time.Now()
	e := failing("consecutive_failures", "status", "503", now)
	e.Score = 1
	e.Scopes = []api.ScopeStatus{{Scope: "big", State: "recovering", Score: 1}}
	text := layout{columns: 120}.status([]api.PoolStatus{{Name: "llm", Endpoints: []api.EndpointStatus{e}}}, now)
	if strings.Contains(text, "1.00") || !strings.Contains(text, " out ") || !strings.Contains(text, "on trial") {
		t.Errorf("got\n%s", text)
	}
}

// TestMisspelledCommand checks that the error suggests the right command.
func TestMisspelledCommand(t *testing.T) {
	root := &cobra.Command{Use: "failover"}
	addCommands(root)
	for word, want := range map[string]string{
		"staus": `unknown command "staus" of failover; did you mean status?`,
		"xyzzy": `unknown command "xyzzy" of failover`,
	} {
		if err := root.Args(root, []string{word}); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", word, err, want)
		}
	}
}

// TestHelpFits checks that the help fits 80 columns, except for the usage lines, which list options.
func TestHelpFits(t *testing.T) {
	root := &cobra.Command{Use: "failover"}
	addCommands(root)
	for _, cmd := range append(root.Commands(), root) {
		help := cmd.UsageString()
		for line := range strings.Lines(help) {
			if line = strings.TrimSuffix(line, "\n"); len(line) > 80 && !strings.HasPrefix(line, "  "+cmd.CommandPath()) {
				t.Errorf("%s: %d columns: %q", cmd.Name(), len(line), line)
			}
		}
	}
}

// TestWrongArguments checks that errors about arguments say which are wanted.
func TestWrongArguments(t *testing.T) {
	root := &cobra.Command{Use: "failover"}
	addCommands(root)
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"drain"}, "want [<pool>] <endpoint>, not 0 arguments"},
		{[]string{"set", "a", "b", "c"}, "want [<pool>] <endpoint>, not 3 arguments"},
		{[]string{"events", "llm"}, `unexpected "llm": the option --pool <pool> selects a pool`},
		{[]string{"why", "a", "b"}, "want one pool at most, not 2 arguments"},
	} {
		cmd, args, err := root.Find(test.args)
		if err == nil {
			err = cmd.ValidateArgs(args)
		}
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%q: %v, want %s", test.args, err, test.want)
		}
	}
	for address, want := range map[string]string{
		"http://localhost:2019/": `the admin address "http://localhost:2019/" has a scheme: write localhost:2019`,
		"localhost":              `the admin address "localhost" has no port: write localhost:2019`,
	} {
		if _, err := newClient(t.Context(), address); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", address, err, want)
		}
	}
}

// TestWhyNamesWhatKeepsRequestsAway checks that why explains endpoints that get no requests although their
// breakers are closed, and leaves out schedules that keep none away.
func TestWhyNamesWhatKeepsRequestsAway(t *testing.T) {
	now := time.Now()
	for _, test := range []struct {
		set     func(*api.EndpointStatus)
		verdict string
		want    []string
	}{
		{func(e *api.EndpointStatus) {
			e.Weight, e.Override = 0, &api.OverrideStatus{Weight: &api.SettingStatus[float64]{Configured: 1, Reason: "costly", Since: now}}
		}, "pool llm serves, but not with all endpoints", []string{"weight 0 by an operator since ", ": costly", "caddy failover set llm one --weight configured"}},
		{func(e *api.EndpointStatus) { e.Weight = 0 }, "pool llm is well", []string{"one gets no requests: its configured weight is 0"}},
		{func(e *api.EndpointStatus) { e.HeldUntil, e.HeldReason = now.Add(time.Minute), "denied" }, "pool llm serves, but not with all endpoints",
			[]string{"in cooldown for another 1m0s: another instance was refused with its credentials", "what helps: check its key"}},
		{func(e *api.EndpointStatus) {
			e.Operator = &api.OperatorStatus{Action: "enable", Since: now}
			e.State = "forced_closed"
		}, "pool llm serves, but not with all endpoints", []string{"kept in service by an operator"}},
		{func(e *api.EndpointStatus) { e.Schedule = &api.ScheduleStatus{Priority: new(int)} }, "pool llm is well", nil},
		{func(e *api.EndpointStatus) { e.Schedule, e.Weight = &api.ScheduleStatus{Weight: new(float64)}, 0 }, "pool llm serves, but not with all endpoints",
			[]string{"weight 0 until "}},
	} {
		e := api.EndpointStatus{Name: "one", State: "closed", Share: 1, Weight: 1}
		test.set(&e)
		text := layout{columns: 120}.why(&api.PoolStatus{Name: "llm", Endpoints: []api.EndpointStatus{e, {Name: "two", State: "closed", Share: 1, Weight: 1}}}, now, nil)
		for _, want := range append(test.want, test.verdict) {
			if !strings.Contains(text, want) {
				t.Errorf("no %q in\n%s", want, text)
			}
		}
		if test.want == nil && strings.Contains(text, "one") {
			t.Errorf("it explains an endpoint that takes its traffic:\n%s", text)
		}
	}
}

// TestAnEndpointThatIsDue checks that status and why do not count down to a trial that only waits for a
// request.
func TestAnEndpointThatIsDue(t *testing.T) {
	now := time.Now()
	for until, want := range map[time.Time]string{
		now.Add(-time.Hour):      "the next request tries it",
		now.Add(time.Second / 3): "the next request tries it",
		now.Add(time.Second):     "it is tried again within 1s",
	} {
		e := failing("consecutive_failures", "status", "503", now)
		e.Until = until
		p := api.PoolStatus{Name: "llm", Down: true, Endpoints: []api.EndpointStatus{e}}
		if text := (layout{columns: 120}).why(&p, now, nil); !strings.Contains(text, want) {
			t.Errorf("%v: why says\n%s", until.Sub(now), text)
		}
		text := (layout{columns: 120}).status([]api.PoolStatus{p}, now)
		if due := strings.Contains(text, "tried by the next request"); due != strings.Contains(want, "next") {
			t.Errorf("%v: status says\n%s", until.Sub(now), text)
		}
	}
}

// TestDetailsOfEvents checks how details of events look.
func TestDetailsOfEvents(t *testing.T) {
	for value, want := range map[any]string{0.000825716: "0.000826", 12.3456: "12.3", 53046.25: "53046", 53046.0: "53046", "x": "x"} {
		if got := fmt.Sprint(plainValue(value)); got != want {
			t.Errorf("%v: %s, want %s", value, got, want)
		}
	}
}

// TestPoolTakesNoCallsOfScopes checks that status and why name the scopes that no endpoint takes, even if each
// endpoint takes others. The pool is then degraded, unless it serves nothing else.
func TestPoolTakesNoCallsOfScopes(t *testing.T) {
	now := time.Now()
	l := layout{columns: 120}
	one := api.EndpointStatus{Name: "one", State: "closed", Share: 1, Weight: 1, Scopes: []api.ScopeStatus{{Scope: "big", State: "open", Reason: "trial_failed"}, {Scope: "small", State: "closed", Share: 1}}}
	two := api.EndpointStatus{Name: "two", State: "open", Weight: 1, Reason: "scopes", Scopes: []api.ScopeStatus{{Scope: "big", State: "open"}}}
	p := api.PoolStatus{Name: "llm", Endpoints: []api.EndpointStatus{one, two}}
	if text := l.why(&p, now, nil); !strings.Contains(text, "pool llm is degraded: no endpoint takes requests of scope big\n") {
		t.Errorf("why says\n%s", text)
	}
	if text := l.status([]api.PoolStatus{p}, now); !strings.Contains(text, "pool llm: degraded (no endpoint takes requests of scope big), ") {
		t.Errorf("status says\n%s", text)
	}
	down := p
	down.Down = true
	if text := l.why(&down, now, nil); !strings.Contains(text, "pool llm is DOWN: no endpoint takes requests of scope big\n") {
		t.Errorf("why says\n%s", text)
	}
	if text := l.status([]api.PoolStatus{down}, now); !strings.Contains(text, "pool llm: DOWN (no endpoint takes requests of scope big), ") {
		t.Errorf("status says\n%s", text)
	}
	for name, change := range map[string]func(e *api.EndpointStatus){
		"another endpoint is in service": func(e *api.EndpointStatus) { e.State, e.Share, e.Scopes = "closed", 1, nil },
		"the scope is back": func(e *api.EndpointStatus) {
			e.State, e.Share, e.Scopes[0].State, e.Scopes[0].Share = "closed", 1, "recovering", 0.05
		},
	} {
		other := two
		other.Scopes = slices.Clone(two.Scopes)
		change(&other)
		p.Endpoints = []api.EndpointStatus{one, other}
		if names := scopesDown(&p); len(names) > 0 {
			t.Errorf("%s: down for %q", name, names)
		}
	}
}
