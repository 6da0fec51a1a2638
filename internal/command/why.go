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

func whyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:               "why [<pool>] [--json]",
		Short:             "Explains what is out: since when, why, and what an operator can do",
		Args:              onePool,
		RunE:              commandRun(runWhy),
		ValidArgsFunction: completeNames(false),
	}
	cmd.Flags().Bool("json", false, "Print the admin API's response")
	return cmd
}

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
		fmt.Fprint(out, layoutOf(out).why(&all[i], time.Now(), optionsOf(flags)))
	}
	return nil
}

// optionsOf returns the options that select this Caddy, for commands that the operator may copy.
func optionsOf(flags caddycmd.Flags) (options []string) {
	for _, name := range []string{"address", "config", "adapter"} {
		if value := flags.String(name); value != "" {
			options = append(options, "--"+name, quoted(value))
		}
	}
	return options
}

// why says which endpoints of a pool are out, since when, why, what happens next, and what an operator
// can do. Its commands end with options, which select this Caddy.
func (l layout) why(p *api.PoolStatus, now time.Time, options []string) string {
	var b strings.Builder
	explained := make([]explanation, len(p.Endpoints))
	out := 0
	for i := range p.Endpoints {
		explained[i] = explainEndpoint(p.Name, &p.Endpoints[i], now)
		if len(explained[i].facts) > 0 {
			out++
		}
	}
	b.WriteString(l.fill(l.verdict(p, out), "  ") + "\n")
	for i, x := range explained {
		if len(x.facts) == 0 {
			continue
		}
		b.WriteString("\n" + l.fill("  "+l.paint(bold, api.Printable(p.Endpoints[i].Name)), "  ") + "\n")
		for _, fact := range x.facts {
			b.WriteString(l.fill("    "+api.Printable(fact), "      ") + "\n")
		}
		if x.command != nil {
			b.WriteString(l.suggest(append(x.command, options...), x.after))
		}
	}
	for i := range p.Endpoints {
		if text := asideOf(&p.Endpoints[i], now); text != "" && len(explained[i].facts) == 0 {
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

// verdict says in one sentence how a pool does. out is the number of endpoints that do not take their
// full traffic.
func (l layout) verdict(p *api.PoolStatus, out int) string {
	pool, down, well := l.paint(bold, api.Printable(p.Name)), l.paint(red, "DOWN"), l.paint(green, "well")
	refused := scopesDown(p)
	switch none := "no endpoint takes requests of scope " + api.Printable(strings.Join(refused, ", ")); {
	case p.Down && len(refused) > 0 && takesSome(p):
		return fmt.Sprintf("pool %s is %s: %s", pool, down, none)
	case p.Down && out > 0:
		return fmt.Sprintf("pool %s is %s: no endpoint takes requests", pool, down)
	case p.Down:
		return fmt.Sprintf("pool %s is %s: no endpoint has a weight", pool, down)
	case out > 0 && len(refused) > 0:
		return fmt.Sprintf("pool %s is %s: %s", pool, l.paint(yellow, "degraded"), none)
	case out > 0:
		return fmt.Sprintf("pool %s serves, but not with all endpoints", pool)
	case len(p.Endpoints) == 1:
		return fmt.Sprintf("pool %s is %s: its endpoint takes its traffic", pool, well)
	}
	return fmt.Sprintf("pool %s is %s: its %d endpoints take their traffic", pool, well, len(p.Endpoints))
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

// asideOf says that an endpoint in service has weight 0, or which failure it had lately; else "".
func asideOf(e *api.EndpointStatus, now time.Time) string {
	if e.Weight == 0 {
		return e.Name + " gets no requests: its configured weight is 0"
	}
	if e.LastFailure == nil || now.Sub(e.LastFailure.At) > recent {
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

// suggest returns a line with a command that an operator can give, followed by after. A command that is
// too long for a line continues on more lines, as a shell reads them.
func (l layout) suggest(command []string, after string) string {
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

// An explanation says why an endpoint does not take its full traffic. The zero value means that it does.
type explanation struct {
	facts   []string // one sentence each
	command []string // changes that; nil if no command does
	after   string   // words that follow the command
}

func (x *explanation) add(format string, values ...any) {
	x.facts = append(x.facts, fmt.Sprintf(format, values...))
}

// advise adds what usually helps, unless x contains it.
func (x *explanation) advise(what string) {
	if what != "" && !slices.Contains(x.facts, helps+what) {
		x.facts = append(x.facts, helps+what)
	}
}

// explainEndpoint says why an endpoint does not take its full traffic.
func explainEndpoint(pool string, e *api.EndpointStatus, now time.Time) (x explanation) {
	// offer sets the command for an action unless there is one.
	offer := func(action, after string) {
		if x.command == nil {
			x.command, x.after = []string{"caddy", "failover", action, quoted(pool), quoted(e.Name)}, after
		}
	}
	switch o := e.Operator; {
	case o != nil:
		words := map[string]string{api.Drain: "drained", api.Trip: "tripped", api.Enable: "kept in service"}
		x.add("%s by an operator since %s%s", words[o.Action], formatTime(o.Since), untilAndWhy(o.Until, o.Reason))
		if o.Action == api.Enable {
			offer(api.Reset, "")
		} else {
			offer(api.Enable, "")
		}
	case e.Schedule != nil && (e.Schedule.Drain || e.Weight == 0):
		x.add("%s", describeSchedule(e.Schedule, now))
	}
	if o := e.Override; o != nil && o.Weight != nil && o.Weight.Value == 0 {
		x.add("weight 0 by an operator since %s%s", formatTime(o.Weight.Since), untilAndWhy(o.Weight.Until, o.Weight.Reason))
		if x.command == nil {
			x.command = []string{"caddy", "failover", api.Set, quoted(pool), quoted(e.Name), "--weight", api.AsConfigured}
		}
	}
	if e.Operator == nil && (e.State == breaker.Open.String() || e.State == breaker.Recovering.String()) {
		x.addBreaker(e, now)
		offer(api.Reset, ", if you know that it is well")
	}
	if !e.HeldUntil.IsZero() {
		why := "it asked for it (429)"
		switch e.HeldReason {
		case "next_on":
			why = "requests moved on from its responses (next_on)"
		case "quota":
			why = "its responses say that a quota is used up"
		case "denied":
			why = "another instance was refused with its credentials"
		}
		x.add("in cooldown for another %s: %s", formatWait(e.HeldUntil, now), why)
		if e.HeldReason == "denied" {
			x.advise(remedies["denied"])
		}
		offer(api.Reset, "")
	}
	for i := range e.Scopes {
		if s := &e.Scopes[i]; isIll(s) && e.Reason != breaker.ReasonScopes {
			x.add("%s", explainScope(s, now))
			if s.Share == 0 {
				x.advise(remedy(s.Reason, s.Cause))
			}
			offer(api.Reset, ", if you know that it is well for these requests")
		}
	}
	for _, l := range e.Limits {
		if l.Left == 0 {
			x.add("its limit of %d %s per %s is used up", l.Amount, l.Of, formatDuration(time.Duration(l.Per*float64(time.Second))))
		}
	}
	if e.Check != nil && e.Check.State == "down" {
		x.add("its health checks fail: %s", e.Check.LastResult)
	}
	if len(x.facts) > 0 && e.LastFailure != nil && (e.Cause == nil || e.LastFailure.String() != e.Cause.String()) {
		x.add("last failure: %s", e.LastFailure)
	}
	return x
}

// addBreaker says why the breaker of an endpoint is open or recovering, what happens next, and what helps.
func (x *explanation) addBreaker(e *api.EndpointStatus, now time.Time) {
	since := e.DownSince
	if since.IsZero() {
		since = e.Since
	}
	x.add("out since %s (%s)", formatTime(since), formatWait(now, since))
	if e.Cause != nil {
		x.add("cause: %s", e.Cause)
	}
	x.add("its breaker is %s: %s", e.State, reasonOf(e.Reason))
	switch {
	case e.State == breaker.Recovering.String() && e.Share == 0:
		x.add("it is on trial: the next request shows whether it works again")
	case e.State == breaker.Recovering.String():
		x.add("it has %s of its traffic now, and gets more while requests succeed", formatPart(e.Share))
	case isDue(e.Until, now):
		x.add("the next request tries it, and it comes back by itself once that succeeds")
	case !e.Until.IsZero():
		x.add("it is tried again within %s, and comes back by itself once that succeeds", formatWait(e.Until, now))
	}
	x.advise(remedy(e.Reason, e.Cause))
}

// explainScope says in one sentence why an endpoint does not get all calls of a scope.
func explainScope(s *api.ScopeStatus, now time.Time) string {
	text := "scope " + s.Scope + ": " + stateOf(s.State)
	if !s.DownSince.IsZero() {
		text += " since " + formatTime(s.DownSince)
	}
	return text + "; " + strings.Join(scopeNotes(s, now), "; ")
}

// untilAndWhy returns the end and the reason of an order, to follow other text.
func untilAndWhy(until time.Time, reason string) string {
	text := ""
	if !until.IsZero() {
		text = ", until " + formatTime(until)
	}
	if reason != "" {
		text += ": " + reason
	}
	return text
}

// quoted returns a word as a shell reads it.
func quoted(word string) string {
	if word != "" && strings.Trim(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-:/@") == "" {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// completeNames returns a completion of the first argument to the names of pools. With endpoints, it
// also completes the second one to the names of the pool's endpoints, and the first one to those of the
// only pool.
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

// namesFor returns the names that complete args.
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
