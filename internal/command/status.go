package command

import (
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/apifailover/caddy-failover/internal/api"
	"github.com/apifailover/caddy-failover/internal/breaker"
)

// clearScreen moves the cursor home and erases a terminal's screen (ECMA-48).
const clearScreen = "\x1b[H\x1b[2J"

// runStatus shows pools, once or, with --watch, repeatedly.
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
	show := func() ([]api.PoolStatus, error) {
		all, text, err := readStatus(c, args)
		if err != nil {
			return nil, err
		}
		switch {
		case asJSON:
			fmt.Fprintln(out, api.PrintableJSON(text))
		case watch && onTerminal(out):
			fmt.Fprint(out, clearScreen+time.Now().Format(time.TimeOnly)+"  "+c.address+"\n\n"+formatStatus(all, time.Now()))
		default:
			fmt.Fprint(out, formatStatus(all, time.Now()))
		}
		return all, nil
	}
	all, err := show()
	if err != nil {
		return err
	}
	if !watch {
		if flags.Bool("check") {
			return exitCode(all)
		}
		return nil
	}
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-c.ctx.Done():
			return nil
		case <-ticker.C:
		}
		if !asJSON && !onTerminal(out) {
			fmt.Fprintln(out)
		}
		if _, err := show(); err != nil && c.ctx.Err() == nil {
			fmt.Fprintf(cmd.ErrOrStderr(), "caddy failover: %s\n", api.PrintableLines(err.Error()))
		}
	}
}

// readStatus returns the pool of args or all pools, and the text of the response.
func readStatus(c *client, args []string) ([]api.PoolStatus, string, error) {
	if len(args) == 0 {
		var all []api.PoolStatus
		text, err := c.exchange(http.MethodGet, api.Root+"pools", nil, &all)
		return all, text, err
	}
	var one api.PoolStatus
	text, err := c.exchange(http.MethodGet, api.Root+"pools/"+url.PathEscape(args[0]), nil, &one)
	return []api.PoolStatus{one}, text, err
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

// formatStatus returns a table for each pool.
func formatStatus(all []api.PoolStatus, now time.Time) string {
	if len(all) == 0 {
		return "no pools\n"
	}
	var b strings.Builder
	for i, p := range all {
		if i > 0 {
			b.WriteByte('\n')
		}
		state := "up"
		if p.Down {
			state = "DOWN"
		}
		fmt.Fprintf(&b, "pool %s: %s, %s requests/s, %d retries denied%s%s\n", api.Printable(p.Name), state, formatRate(p.CallsPerSecond), p.RetriesDenied, formatWaiting(p.Waiting), formatSLA(p.SLA))
		if p.Incident != nil {
			b.WriteString(formatIncident(p.Incident, now))
		}
		formatEndpoints(&b, p.Endpoints, now)
	}
	return b.String()
}

// formatWaiting returns how many calls wait for an endpoint, to follow other text; "" if none do.
func formatWaiting(w *api.WaitingStatus) string {
	if w == nil || w.Calls == 0 {
		return ""
	}
	return fmt.Sprintf(", %d requests wait, the first for %s", w.Calls, formatSeconds(w.Longest))
}

// formatSLA returns how far the objectives are met, to follow other text; "" without objectives.
func formatSLA(s *api.SLAStatus) string {
	if s == nil {
		return ""
	}
	text := ""
	for _, i := range []struct {
		name string
		*api.IndicatorStatus
	}{{"availability", s.Availability}, {"latency", s.Latency}} {
		if i.IndicatorStatus == nil {
			continue
		}
		text += fmt.Sprintf(", %s %s of %s with %s of the error budget left", i.name,
			formatPercent(i.Achieved), formatPercent(i.Objective), formatPart(i.BudgetLeft))
		if i.Burning {
			text += " (burning)"
		}
	}
	return text
}

func formatEndpoints(w io.Writer, endpoints []api.EndpointStatus, now time.Time) {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "  ENDPOINT\tPRIORITY\tWEIGHT\tSTATE\tTRAFFIC\tSHARE\tSCORE\tIN FLIGHT\tOK\tFAILED\tCANCELLED\tP50\tP99\tNOTE")
	for _, e := range endpoints {
		p50, p99 := "-", "-"
		if e.Latency != nil {
			p50, p99 = formatSeconds(e.Latency.P50), formatSeconds(e.Latency.P99)
		}
		state := e.State
		if e.Draining {
			state = "draining"
		}
		fmt.Fprintf(table, "  %s\t%d\t%s\t%s\t%s\t%s\t%.2f\t%d\t%d\t%d\t%d\t%s\t%s\t%s\n",
			api.Printable(e.Name), e.Priority, strconv.FormatFloat(e.Weight, 'g', 4, 64), state,
			formatPart(e.Traffic), formatPart(e.Share), e.Score, e.InFlight, e.Successes, e.Failures, e.Cancelled, p50, p99,
			api.Printable(strings.Join(notes(&e, now), "; ")))
		for i := range e.Scopes {
			formatScope(table, &e.Scopes[i], now)
		}
	}
	table.Flush()
}

// formatScope writes the row of a scope below its endpoint's.
func formatScope(w io.Writer, s *api.ScopeStatus, now time.Time) {
	p50, p99 := "-", "-"
	if s.Latency != nil {
		p50, p99 = formatSeconds(s.Latency.P50), formatSeconds(s.Latency.P99)
	}
	fmt.Fprintf(w, "    %s\t\t\t%s\t\t%s\t%.2f\t\t\t\t\t%s\t%s\t%s\n",
		api.Printable(s.Scope), s.State, formatPart(s.Share), s.Score, p50, p99, api.Printable(strings.Join(scopeNotes(s, now), "; ")))
}

// isIll reports whether calls of a scope, or a part of them, are kept from the endpoint.
func isIll(s *api.ScopeStatus) bool {
	return s.State != breaker.Closed.String() || !s.HeldUntil.IsZero()
}

// scopeNotes returns what the columns of a scope do not show.
func scopeNotes(s *api.ScopeStatus, now time.Time) (notes []string) {
	if s.State != breaker.Closed.String() {
		note := s.Reason
		if !s.Until.IsZero() {
			note += ", tried again in " + formatWait(s.Until, now)
		}
		notes = append(notes, note)
		if s.Cause != nil {
			notes = append(notes, s.Cause.String())
		}
	}
	if !s.HeldUntil.IsZero() {
		notes = append(notes, describeHold(s.HeldUntil, s.HeldReason, now))
	}
	return notes
}

// describeHold returns why and how long calls are kept away.
func describeHold(until time.Time, reason string, now time.Time) string {
	switch reason {
	case "next_on":
		return "in cooldown, because requests moved on from its responses (next_on); tried again in " + formatWait(until, now)
	case "quota":
		return "in cooldown for another " + formatWait(until, now) + ", because its responses say that a quota is used up"
	}
	return "in cooldown (429) for another " + formatWait(until, now)
}

// notes returns what the columns of an endpoint do not show.
func notes(e *api.EndpointStatus, now time.Time) []string {
	var notes []string
	if o := e.Operator; o != nil {
		notes = append(notes, "operator: "+describeOrder(o.Action, o.Reason, o.Until, now))
	} else if e.State != breaker.Closed.String() {
		note := e.Reason
		if !e.Until.IsZero() {
			note += ", tried again in " + formatWait(e.Until, now)
		}
		notes = append(notes, note)
		if e.Cause != nil {
			notes = append(notes, e.Cause.String())
		}
	}
	for _, l := range e.Limits {
		per := time.Duration(l.Per * float64(time.Second))
		notes = append(notes, fmt.Sprintf("%d of %d %s left per %s", l.Left, l.Amount, l.Of, shortDuration(per)))
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

// shortDuration writes a duration without units that are 0: 1m and not 1m0s.
func shortDuration(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// describeSchedule returns what a schedule changes at an endpoint, and until when.
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
	layout := "15:04"
	if s.Until.Sub(now) >= 24*time.Hour {
		layout = "2006-01-02 15:04"
	}
	return strings.Join(what, ", ") + " until " + s.Until.In(now.Location()).Format(layout) + ", by schedule"
}

func describeOrder(action, reason string, until, now time.Time) string {
	if !until.IsZero() {
		action += " for another " + formatWait(until, now)
	}
	if reason != "" {
		action += " (" + reason + ")"
	}
	return action
}

func formatPart(part float64) string {
	return strconv.FormatFloat(math.Round(1000*part)/10, 'f', -1, 64) + "%"
}

// formatPercent returns a percentage with the digits that an objective may have. It rounds
// down, so that a missed objective never looks met.
func formatPercent(part float64) string {
	return strconv.FormatFloat(math.Floor(1e5*part+1e-6)/1e3, 'f', -1, 64) + "%"
}

func formatRate(rate float64) string { return strconv.FormatFloat(math.Round(rate*10)/10, 'f', -1, 64) }

func formatSeconds(seconds float64) string {
	if seconds <= 0 {
		return "-"
	}
	d := time.Duration(seconds * float64(time.Second))
	unit := time.Duration(1)
	for d/unit >= 1000 {
		unit *= 10
	}
	return d.Round(unit).String()
}

func formatWait(until, now time.Time) string {
	return max(0, until.Sub(now)).Round(time.Second).String()
}
