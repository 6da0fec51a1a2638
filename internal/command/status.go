package command

import (
	"encoding/json"
	"fmt"

	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/apifailover/caddy-failover/internal/api"
	"github.com/apifailover/caddy-failover/internal/breaker"
)

// clearScreen moves the cursor home and erases a terminal's screen (ECMA-48).
const clearScreen = "\x1b[H\x1b[2J"

func statusCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:               "status [<pool>] [--watch] [--check] [--fleet] [--json]",
		Short:             "Shows the state of pools and their endpoints",
		Args:              onePool,
		RunE:              commandRun(runStatus),
		ValidArgsFunction: completeNames(false),
	}
	cmd.Flags().BoolP("watch", "w", false, "Show it again every --interval until interrupted")
	cmd.Flags().Duration("interval", time.Second, "Time between two updates of --watch")
	cmd.Flags().Bool("check", false, "Exit with 5 if an endpoint is out, 6 if a pool is")
	cmd.Flags().Bool("fleet", false, "Show the fleet's instances and what each has open")
	cmd.Flags().Bool("json", false, "Print the admin API's response")
	return cmd
}

// runStatus shows pools: once, or repeatedly with --watch.
func runStatus(c *client, cmd *cobra.Command, args []string) error {
	flags := caddycmd.Flags{FlagSet: cmd.Flags()}
	watch, asJSON, out := flags.Bool("watch"), flags.Bool("json"), cmd.OutOrStdout()
	interval, err := cmd.Flags().GetDuration("interval")
	if err != nil || interval < 100*time.Millisecond {
		return fmt.Errorf("--interval must be at least 100ms")
	}
	if watch && flags.Bool("check") {
		return fmt.Errorf("--watch and --check contradict each other")
	}
	if flags.Bool("fleet") {
		if watch || flags.Bool("check") || len(args) > 0 {
			return fmt.Errorf("--fleet shows the whole fleet once: leave --watch, --check and the pool out")
		}
		return showFleet(c, out, asJSON)
	}
	shown := false
	show := func(all []api.PoolStatus, text string) {
		now, l := time.Now(), layoutOf(out)
		switch {
		case asJSON:
			fmt.Fprintln(out, api.PrintableJSON(text))
		case watch && onTerminal(out):
			fmt.Fprint(out, clearScreen+now.Format("15:04:05 MST")+"  "+api.Printable(c.address)+"\n\n"+l.status(all, now))
		case shown:
			fmt.Fprint(out, "\n"+l.status(all, now))
		default:
			fmt.Fprint(out, l.status(all, now))
		}
		shown = true
	}
	if watch {
		return watchStatus(c, cmd, args, interval, show)
	}
	all, text, err := readStatus(c, args)
	if err != nil {
		return err
	}
	show(all, text)
	if flags.Bool("check") {
		return exitCode(all)
	}
	return nil
}

// watchStatus shows pools repeatedly until the command is interrupted. It reads a stream, so Caddy
// logs one request. It returns an error before the first status, and prints a later one and goes on.
func watchStatus(c *client, cmd *cobra.Command, args []string, interval time.Duration, show func([]api.PoolStatus, string)) error {
	uri := statusPath(args)
	shown := false
	for {
		err := c.follow(uri, interval, func(text string) error {
			all, err := decodeStatus(args, text)
			if err == nil {
				shown = true
				show(all, text)
			}
			return err
		})
		if c.ctx.Err() != nil {
			return nil
		}
		if err != nil && !shown {
			return err
		}
		if err != nil {
			fmt.Fprintf(cmd.ErrOrStderr(), "caddy failover: %s\n", api.PrintableLines(err.Error()))
		}
		if !c.pause(interval) {
			return nil
		}
	}
}

// statusPath returns the path of the status of the pool in args, or of all pools.
func statusPath(args []string) string {
	if len(args) == 0 {
		return api.Root + "pools"
	}
	return api.Root + "pools/" + url.PathEscape(args[0])
}

// decodeStatus decodes the status of the pool in args, or of all pools.
func decodeStatus(args []string, text string) (all []api.PoolStatus, err error) {
	if len(args) == 0 {
		err = json.Unmarshal([]byte(text), &all)
	} else {
		all = make([]api.PoolStatus, 1)
		err = json.Unmarshal([]byte(text), &all[0])
	}
	if err != nil {
		return nil, fmt.Errorf("reading a status: %w", err)
	}
	return all, nil
}

// readStatus reads the status of the pool in args, or of all pools. It also returns the response's
// text.
func readStatus(c *client, args []string) ([]api.PoolStatus, string, error) {
	var raw json.RawMessage
	text, err := c.exchange(http.MethodGet, statusPath(args), nil, &raw)
	if err != nil {
		return nil, "", err
	}
	all, err := decodeStatus(args, text)
	return all, text, err
}

// exitCode returns an error with the exit code for the state of pools; nil if all are well.
func exitCode(all []api.PoolStatus) error {
	code := exitDone
	for _, p := range all {
		if p.Down {
			return &commandError{code: exitDown}
		}
		for _, e := range p.Endpoints {
			if e.State != breaker.Closed.String() && e.State != breaker.ForcedClosed.String() || e.Draining || !e.HeldUntil.IsZero() {
				code = exitDegraded
			}
			for i := range e.Scopes {
				if isIll(&e.Scopes[i]) {
					code = exitDegraded
				}
			}
		}
	}
	if code == exitDone {
		return nil
	}
	return &commandError{code: code}
}

// status returns a table for each pool.
func (l layout) status(all []api.PoolStatus, now time.Time) string {
	if len(all) == 0 {
		return "no pools\n"
	}
	var b strings.Builder
	for i, p := range all {
		if i > 0 {
			b.WriteByte('\n')
		}
		state, refused := l.paint(green, "up"), scopesDown(&p)
		if p.Down {
			state = l.paint(red, "DOWN")
		} else if len(refused) > 0 {
			state = l.paint(yellow, "degraded")
		}
		if len(refused) > 0 && (!p.Down || takesSome(&p)) {
			state += " (no endpoint takes requests of scope " + api.Printable(strings.Join(refused, ", ")) + ")"
		}
		b.WriteString(l.fill(fmt.Sprintf("pool %s: %s, %s requests/s, %d retries denied%s%s", l.paint(bold, api.Printable(p.Name)), state,
			formatRate(p.CallsPerSecond), p.RetriesDenied, formatWaiting(p.Waiting), formatSLA(p.SLA)), "  ") + "\n")
		if p.Incident != nil {
			b.WriteString(l.incident(p.Incident, now))
		}
		l.endpoints(&b, p.Endpoints, now)
	}
	return b.String()
}

// formatWaiting writes how many calls wait for an endpoint, to follow other text; "" if none do.
func formatWaiting(w *api.WaitingStatus) string {
	if w == nil || w.Calls == 0 {
		return ""
	}
	return fmt.Sprintf(", %d requests wait, the first for %s", w.Calls, formatSeconds(w.Longest))
}

// formatSLA writes the results beside the objectives, to follow other text; "" without objectives.
func formatSLA(s *api.SLAStatus) string {
	text := ""
	for _, i := range indicatorsOf(s) {
		text += fmt.Sprintf(", %s %s of %s with the error budget %s", i.name,
			formatPercent(i.Achieved), formatPercent(i.Objective), formatBudget(i.BudgetLeft))
		if i.Burning {
			text += " (burning)"
		}
	}
	return text
}

// An indicator is one objective of a pool with its name.
type indicator struct {
	name string
	*api.IndicatorStatus
}

// indicatorsOf returns the objectives of a pool. s may be nil.
func indicatorsOf(s *api.SLAStatus) (all []indicator) {
	if s == nil {
		return nil
	}
	for _, i := range []indicator{{"availability", s.Availability}, {"latency", s.Latency}} {
		if i.IndicatorStatus != nil {
			all = append(all, i)
		}
	}
	return all
}

// endpointColumns are the columns of the table of endpoints. A narrow table leaves out first what
// matters least in an outage.
var endpointColumns = []column{
	{"ENDPOINT", 0}, {"PRIORITY", 5}, {"WEIGHT", 7}, {"STATE", 0}, {"TRAFFIC", 1}, {"SHARE", 4}, {"SCORE", 6}, {"IN FLIGHT", 2},
	{"OK", 9}, {"FAILED", 8}, {"CANCELLED", 11}, {"P50", 10}, {"P99", 3},
}

// endpoints writes a table of the endpoints and their scopes.
func (l layout) endpoints(b *strings.Builder, endpoints []api.EndpointStatus, now time.Time) {
	rows := make([]row, 0, len(endpoints))
	for _, e := range endpoints {
		p50, p99 := "-", "-"
		if e.Latency != nil {
			p50, p99 = formatSeconds(e.Latency.P50), formatSeconds(e.Latency.P99)
		}
		r := row{cells: []string{
			api.Printable(e.Name), strconv.Itoa(e.Priority), strconv.FormatFloat(e.Weight, 'g', 4, 64), l.state(&e),
			formatPart(e.Traffic), formatPart(e.Share), formatScore(e.Score, e.Share), fmt.Sprint(e.InFlight),
			fmt.Sprint(e.Successes), fmt.Sprint(e.Failures), fmt.Sprint(e.Cancelled), p50, p99,
		}}
		for _, note := range notes(&e, now) {
			r.below = append(r.below, api.Printable(note))
		}
		rows = append(rows, r)
		for i := range e.Scopes {
			rows = append(rows, l.scope(&e.Scopes[i], now))
		}
	}
	l.table(b, "  ", endpointColumns, rows)
}

// state returns an endpoint's state in its colour.
func (l layout) state(e *api.EndpointStatus) string {
	switch {
	case e.Draining:
		return l.paint(yellow, "draining")
	case e.State == breaker.Open.String() || e.State == breaker.ForcedOpen.String():
		return l.paint(red, stateOf(e.State))
	case e.State == breaker.Recovering.String() || e.State == breaker.ForcedClosed.String():
		return l.paint(yellow, stateOf(e.State))
	case !e.HeldUntil.IsZero():
		return l.paint(yellow, "in cooldown")
	}
	return l.paint(green, stateOf(e.State))
}

// scope returns the row of a scope, below the row of its endpoint.
func (l layout) scope(s *api.ScopeStatus, now time.Time) row {
	p50, p99 := "-", "-"
	if s.Latency != nil {
		p50, p99 = formatSeconds(s.Latency.P50), formatSeconds(s.Latency.P99)
	}
	state := green
	switch {
	case s.State == breaker.Open.String():
		state = red
	case isIll(s):
		state = yellow
	}
	r := row{cells: []string{
		"- " + api.Printable(s.Scope), "", "", l.paint(state, scopeState(s)), "", formatPart(s.Share), formatScore(s.Score, s.Share), "",
		"", "", "", p50, p99,
	}}
	for _, note := range scopeNotes(s, now) {
		r.below = append(r.below, api.Printable(note))
	}
	return r
}

// scopeState returns the words for a scope's state.
func scopeState(s *api.ScopeStatus) string {
	if s.State == breaker.Closed.String() && !s.HeldUntil.IsZero() {
		return "in cooldown"
	}
	return stateOf(s.State)
}

// isIll reports whether the breaker or a cooldown keeps calls of a scope away.
func isIll(s *api.ScopeStatus) bool {
	return s.State != breaker.Closed.String() || !s.HeldUntil.IsZero()
}

// scopeNotes returns the lines below the row of a scope.
func scopeNotes(s *api.ScopeStatus, now time.Time) (notes []string) {
	if s.State != breaker.Closed.String() {
		notes = append(notes, breakerNote(s.State, s.Reason, s.Until, now))
		if s.Cause != nil {
			notes = append(notes, s.Cause.String())
		}
	}
	if !s.HeldUntil.IsZero() {
		notes = append(notes, describeHold(s.HeldUntil, s.HeldReason, now))
	}
	return notes
}

// describeHold says how long an endpoint gets no calls, and why.
func describeHold(until time.Time, reason string, now time.Time) string {
	switch reason {
	case "next_on":
		return "in cooldown, because requests moved on from its responses (next_on); tried again in " + formatWait(until, now)
	case "quota":
		return "in cooldown for another " + formatWait(until, now) + ", because its responses say that a quota is used up"
	case "denied":
		return "in cooldown for another " + formatWait(until, now) + ", because another instance was refused with its credentials"
	}
	return "in cooldown (429) for another " + formatWait(until, now)
}

// breakerNote says why a breaker is not closed, and when the endpoint is tried again.
func breakerNote(state, reason string, until, now time.Time) string {
	note := "breaker " + state + ": " + reasonOf(reason)
	switch {
	case isDue(until, now):
		note += ", tried by the next request"
	case !until.IsZero():
		note += ", tried again in " + formatWait(until, now)
	}
	return note
}

// isDue reports whether the wait until a time is over, or shows as 0s.
func isDue(until, now time.Time) bool { return !until.IsZero() && until.Sub(now) < time.Second/2 }

// notes returns the lines below the row of an endpoint.
func notes(e *api.EndpointStatus, now time.Time) []string {
	var notes []string
	if o := e.Operator; o != nil {
		notes = append(notes, "operator: "+describeOrder(o.Action, o.Reason, o.Until, now))
	} else if e.State != breaker.Closed.String() {
		notes = append(notes, breakerNote(e.State, e.Reason, e.Until, now))
		if e.Cause != nil {
			notes = append(notes, e.Cause.String())
		}
	}
	for _, l := range e.Limits {
		per := time.Duration(l.Per * float64(time.Second))
		notes = append(notes, fmt.Sprintf("%d of %d %s left per %s", l.Left, l.Amount, l.Of, formatDuration(per)))
	}
	for _, q := range e.Quotas {
		if q.Amount > 0 {
			notes = append(notes, fmt.Sprintf("%d of %d %s left, as it says", q.Left, q.Amount, q.Of))
		} else {
			notes = append(notes, fmt.Sprintf("%d %s left, as it says", q.Left, q.Of))
		}
	}
	if s := e.Schedule; s != nil {
		notes = append(notes, describeSchedule(s, now))
	}
	if !e.HeldUntil.IsZero() {
		notes = append(notes, describeHold(e.HeldUntil, e.HeldReason, now))
	}
	if e.Check != nil && e.Check.State == "down" {
		notes = append(notes, "checks fail: "+e.Check.LastResult)
	}
	if e.Override != nil {
		if w := e.Override.Weight; w != nil {
			notes = append(notes, fmt.Sprintf("operator: weight %v instead of %v%s", w.Value, w.Configured, describeOrder("", w.Reason, w.Until, now)))
		}
		if p := e.Override.Priority; p != nil {
			notes = append(notes, fmt.Sprintf("operator: priority %d instead of %d%s", p.Value, p.Configured, describeOrder("", p.Reason, p.Until, now)))
		}
	}
	return notes
}

// describeSchedule says what a schedule changes at an endpoint, and until when.
func describeSchedule(s *api.ScheduleStatus, now time.Time) string {
	var what []string
	if s.Drain {
		what = append(what, "drained")
	}
	if s.Weight != nil {
		what = append(what, fmt.Sprintf("weight %v", *s.Weight))
	}
	if s.Priority != nil {
		what = append(what, fmt.Sprintf("priority %d", *s.Priority))
	}
	format := "15:04 MST"
	if s.Until.Sub(now) >= 24*time.Hour {
		format = "2006-01-02 15:04 MST"
	}
	return strings.Join(what, ", ") + " until " + s.Until.In(now.Location()).Format(format) + ", by schedule"
}

// describeOrder returns an action with its end and the operator's reason.
func describeOrder(action, reason string, until, now time.Time) string {
	if !until.IsZero() {
		action += " for another " + formatWait(until, now)
	}
	if reason != "" {
		action += " (" + reason + ")"
	}
	return action
}
