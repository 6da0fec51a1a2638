package command

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/apifailover/caddy-failover/internal/api"
	"github.com/apifailover/caddy-failover/internal/breaker"
)

// runWhy explains why endpoints do not take their full traffic.
func runWhy(c *client, cmd *cobra.Command, args []string) error {
	flags := caddycmd.Flags{FlagSet: cmd.Flags()}
	all, text, err := readStatus(c, args)
	if err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	if flags.Bool("json") {
		fmt.Fprintln(out, api.PrintableJSON(text))
		return nil
	}
	if len(all) == 0 {
		fmt.Fprintln(out, "no pools")
	}
	for i := range all {
		if i > 0 {
			fmt.Fprintln(out)
		}
		fmt.Fprint(out, layoutOf(out).why(&all[i], time.Now(), whereOf(flags)))
	}
	return nil
}

// whereOf returns the options that select this Caddy, for commands that the operator may copy.
func whereOf(flags caddycmd.Flags) (options []string) {
	for _, name := range []string{"address", "config", "adapter"} {
		if value := flags.String(name); value != "" {
			options = append(options, "--"+name, quoted(value))
		}
	}
	return options
}

// why says which endpoints of a pool are out, since when, why, what happens next, and what an operator
// can do. Its commands end with where.
func (l layout) why(p *api.PoolStatus, now time.Time, where []string) string {
	var b strings.Builder
	pool, down := l.paint(bold, api.Printable(p.Name)), l.paint(red, "DOWN")
	out := 0
	for i := range p.Endpoints {
		e := &p.Endpoints[i]
		facts, command, after := explainEndpoint(p.Name, e, now)
		if len(facts) == 0 {
			continue
		}
		if refused := scopesDown(p); out == 0 && len(refused) > 0 && (!p.Down || takesSome(p)) {
			state := down
			if !p.Down {
				state = l.paint(yellow, "degraded")
			}
			b.WriteString(l.fill(fmt.Sprintf("pool %s is %s: no endpoint takes requests of scope %s", pool, state, api.Printable(strings.Join(refused, ", "))), "  ") + "\n")
		} else if out == 0 && p.Down {
			b.WriteString(l.fill(fmt.Sprintf("pool %s is %s: no endpoint takes requests", pool, down), "  ") + "\n")
		} else if out == 0 {
			b.WriteString(l.fill(fmt.Sprintf("pool %s serves, but not with all endpoints", pool), "  ") + "\n")
		}
		out++
		b.WriteString("\n" + l.fill("  "+l.paint(bold, api.Printable(e.Name)), "  ") + "\n")
		for _, fact := range facts {
			b.WriteString(l.fill("    "+api.Printable(fact), "      ") + "\n")
		}
		if command != nil {
			b.WriteString(l.cure(append(command, where...), after))
		}
	}
	switch {
	case out == 0 && p.Down:
		b.WriteString(l.fill(fmt.Sprintf("pool %s is %s: no endpoint has a weight", pool, down), "  ") + "\n")
	case out == 0 && len(p.Endpoints) == 1:
		b.WriteString(l.fill(fmt.Sprintf("pool %s is %s: its endpoint takes its traffic", pool, l.paint(green, "well")), "  ") + "\n")
	case out == 0:
		b.WriteString(l.fill(fmt.Sprintf("pool %s is %s: its %d endpoints take their traffic", pool, l.paint(green, "well"), len(p.Endpoints)), "  ") + "\n")
	}
	for i := range p.Endpoints {
		if text := stillFailing(p.Name, &p.Endpoints[i], now); text != "" {
			b.WriteString("\n" + l.fill("  "+api.Printable(text), "    ") + "\n")
		}
	}
	if text := formatWaiting(p.Waiting); text != "" {
		b.WriteString("\n" + l.fill("  "+strings.TrimPrefix(text, ", "), "    ") + "\n")
	}
	for _, text := range burns(p.SLA) {
		b.WriteString("\n" + l.fill("  "+l.paint(red, text), "    ") + "\n")
	}
	if p.Incident != nil {
		b.WriteString("\n" + l.incident(p.Incident, now))
	}
	return b.String()
}

// takesSome reports whether an endpoint of a pool takes requests, if only of some scopes.
func takesSome(p *api.PoolStatus) bool {
	return slices.ContainsFunc(p.Endpoints, func(e api.EndpointStatus) bool {
		return e.Weight > 0 && !e.Draining && e.Share > 0 && e.HeldUntil.IsZero()
	})
}

// scopesDown returns the scopes whose requests no endpoint of a pool takes.
func scopesDown(p *api.PoolStatus) (names []string) {
	takes := func(e *api.EndpointStatus, scope string) bool {
		if e.Weight == 0 || e.Draining || e.Share == 0 || !e.HeldUntil.IsZero() {
			return false
		}
		for i := range e.Scopes {
			if s := &e.Scopes[i]; s.Scope == scope {
				return s.Share > 0 && s.HeldUntil.IsZero()
			}
		}
		return true
	}
	for i := range p.Endpoints {
		for _, s := range p.Endpoints[i].Scopes {
			taken := slices.ContainsFunc(p.Endpoints, func(e api.EndpointStatus) bool { return takes(&e, s.Scope) })
			if !taken && !slices.Contains(names, s.Scope) {
				names = append(names, s.Scope)
			}
		}
	}
	return names
}

// recent is how long why shows a failure of an endpoint that is in service.
const recent = 5 * time.Minute

// stillFailing says what failed lately at an endpoint that is in service; "" if nothing did.
func stillFailing(pool string, e *api.EndpointStatus, now time.Time) string {
	facts, _, _ := explainEndpoint(pool, e, now)
	if len(facts) > 0 || e.LastFailure == nil || now.Sub(e.LastFailure.At) > recent {
		return ""
	}
	return fmt.Sprintf("%s is in service, but some requests fail: %s, the last %s ago", e.Name, e.LastFailure.String(), formatWait(now, e.LastFailure.At))
}

// burns says which error budgets are spent too fast, or overspent.
func burns(s *api.SLAStatus) (texts []string) {
	for _, i := range indicatorsOf(s) {
		switch {
		case i.Burning:
			texts = append(texts, fmt.Sprintf("its error budget for %s burns: %s", i.name, formatBudget(i.BudgetLeft)))
		case i.BudgetLeft <= 0:
			texts = append(texts, fmt.Sprintf("its error budget for %s is spent: %s of %s", i.name, formatPercent(i.Achieved), formatPercent(i.Objective)))
		}
	}
	return texts
}

// cure returns a line with a command that an operator can give, followed by after. A command that is too
// long for a line continues on more lines, as a shell reads them.
func (l layout) cure(command []string, after string) string {
	const lead, more = "    to change that: ", "        "
	text := api.Printable(strings.Join(command, " "))
	if n := columnsOf(lead + text + after); n <= l.columns {
		return lead + text + after + "\n"
	}
	lines := []string{strings.TrimRight(lead, " "), ""}
	for _, word := range command {
		word = api.Printable(word)
		last := &lines[len(lines)-1]
		switch {
		case *last == "":
			*last = more + word
		case columnsOf(*last)+1+columnsOf(word)+2 <= l.columns:
			*last += " " + word
		default:
			*last += " \\"
			lines = append(lines, more+"  "+word)
		}
	}
	if after = strings.TrimLeft(after, ", "); after != "" {
		lines[0] = l.fill("    "+after+", this changes that:", "      ")
	}
	return strings.Join(lines, "\n") + "\n"
}

// helps begins the sentence on what usually helps.
const helps = "what helps: "

// explainEndpoint returns the reasons why an endpoint does not take its full traffic, one sentence each,
// the command that changes that, and a few words to follow it. It returns nothing for a healthy endpoint.
func explainEndpoint(pool string, e *api.EndpointStatus, now time.Time) (facts, cure []string, after string) {
	command := func(action string) []string {
		return []string{"caddy", "failover", action, quoted(pool), quoted(e.Name)}
	}
	switch o := e.Operator; {
	case o != nil:
		words := map[string]string{api.Drain: "drained", api.Trip: "tripped", api.Enable: "kept closed"}
		facts = append(facts, fmt.Sprintf("%s by an operator since %s%s", words[o.Action], stamp(o.Since), untilAndWhy(o.Until, o.Reason)))
		cure = command(api.Enable)
		if o.Action == api.Enable {
			cure = command(api.Reset)
		}
	case e.Schedule != nil:
		facts = append(facts, describeSchedule(e.Schedule, now))
	}
	if e.Operator == nil && (e.State == breaker.Open.String() || e.State == breaker.Recovering.String()) {
		since := e.DownSince
		if since.IsZero() {
			since = e.Since
		}
		facts = append(facts, fmt.Sprintf("out since %s (%s)", stamp(since), formatWait(now, since)))
		if e.Cause != nil {
			facts = append(facts, "cause: "+e.Cause.String())
		}
		facts = append(facts, "its breaker is "+e.State+": "+reasonOf(e.Reason))
		switch {
		case e.State == breaker.Recovering.String() && e.Share == 0:
			facts = append(facts, "it is on trial: the next request shows whether it works again")
		case e.State == breaker.Recovering.String():
			facts = append(facts, "it has "+formatPart(e.Share)+" of its traffic now, and gets more while requests succeed")
		case !e.Until.IsZero():
			facts = append(facts, "it is tried again within "+formatWait(e.Until, now)+", and comes back by itself once that succeeds")
		}
		if what := remedy(e.Reason, e.Cause); what != "" {
			facts = append(facts, helps+what)
		}
		cure, after = command(api.Reset), ", if you know that it is well"
	}
	if !e.HeldUntil.IsZero() {
		why := "it asked for it (429)"
		switch e.HeldReason {
		case "next_on":
			why = "requests moved on from its responses (next_on)"
		case "quota":
			why = "its responses say that a quota is used up"
		}
		facts = append(facts, fmt.Sprintf("in cooldown for another %s: %s", formatWait(e.HeldUntil, now), why))
		if cure == nil {
			cure = command(api.Reset)
		}
	}
	for i := range e.Scopes {
		if s := &e.Scopes[i]; isIll(s) && e.Reason != breaker.ReasonScopes {
			facts = append(facts, explainScope(s, now))
			if what := remedy(s.Reason, s.Cause); what != "" && s.Share == 0 && !slices.Contains(facts, helps+what) {
				facts = append(facts, helps+what)
			}
			if cure == nil {
				cure, after = command(api.Reset), ", if you know that it is well for these requests"
			}
		}
	}
	for _, l := range e.Limits {
		if l.Left == 0 {
			facts = append(facts, fmt.Sprintf("its limit of %d %s per %s is used up", l.Amount, l.Of, shortDuration(time.Duration(l.Per*float64(time.Second)))))
		}
	}
	if e.Check != nil && e.Check.State == "down" {
		facts = append(facts, "its health checks fail: "+e.Check.LastResult)
	}
	if len(facts) > 0 && e.LastFailure != nil && (e.Cause == nil || e.LastFailure.String() != e.Cause.String()) {
		facts = append(facts, "last failure: "+e.LastFailure.String())
	}
	return facts, cure, after
}

// explainScope says in one sentence why an endpoint does not get all calls of a scope.
func explainScope(s *api.ScopeStatus, now time.Time) string {
	text := "scope " + s.Scope + ": " + stateOf(s.State)
	if !s.DownSince.IsZero() {
		text += " since " + stamp(s.DownSince)
	}
	return text + "; " + strings.Join(scopeNotes(s, now), "; ")
}

// untilAndWhy returns the end and the reason of an order, to follow other text.
func untilAndWhy(until time.Time, reason string) string {
	text := ""
	if !until.IsZero() {
		text = ", until " + stamp(until)
	}
	if reason != "" {
		text += ": " + reason
	}
	return text
}

// stamp returns a time in the local zone, with the zone.
func stamp(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05 MST") }

// quoted returns a word as a shell reads it.
func quoted(word string) string {
	if word != "" && strings.Trim(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-:/@") == "" {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// completeNames offers the names of pools for the first argument and those of endpoints for the
// second; with a single pool, its endpoints come first.
func completeNames(endpoints bool) func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		var names []string
		if err := runWithClient(func(c *client, _ *cobra.Command, _ []string) error {
			var err error
			names, err = namesFor(c, args, endpoints)
			return err
		}, cmd, args); err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}

func namesFor(c *client, args []string, endpoints bool) (names []string, err error) {
	if len(args) == 1 && endpoints {
		var one api.PoolStatus
		_, err = c.exchange(http.MethodGet, api.Root+"pools/"+url.PathEscape(args[0]), nil, &one)
		return namesOf(one.Endpoints), err
	}
	if len(args) > 0 {
		return nil, nil
	}
	var all []api.PoolStatus
	if _, err = c.exchange(http.MethodGet, api.Root+"pools", nil, &all); err != nil {
		return nil, err
	}
	if endpoints && len(all) == 1 {
		names = namesOf(all[0].Endpoints)
	}
	for _, p := range all {
		names = append(names, api.Printable(p.Name))
	}
	return names, nil
}

func namesOf(endpoints []api.EndpointStatus) (names []string) {
	for _, e := range endpoints {
		names = append(names, api.Printable(e.Name))
	}
	return names
}
