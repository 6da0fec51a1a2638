package command

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/apifailover/caddy-failover/internal/api"
	"github.com/apifailover/caddy-failover/internal/breaker"
)

// runWhy explains what keeps endpoints of a pool from their traffic.
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
	for _, p := range all {
		fmt.Fprint(out, layoutOf(out).why(&p, time.Now()))
	}
	return nil
}

// why says what is out in a pool, since when, why, what happens next, and what an operator can
// do.
func (l layout) why(p *api.PoolStatus, now time.Time) string {
	var b strings.Builder
	pool, down := l.paint(bold, api.Printable(p.Name)), l.paint(red, "DOWN")
	out := 0
	for i := range p.Endpoints {
		e := &p.Endpoints[i]
		facts, command, after := explainEndpoint(p.Name, e, now)
		if len(facts) == 0 {
			continue
		}
		if out == 0 && p.Down {
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
			b.WriteString(l.cure(command, after))
		}
	}
	switch {
	case out == 0 && p.Down:
		b.WriteString(l.fill(fmt.Sprintf("pool %s is %s: no endpoint has a weight", pool, down), "  ") + "\n")
	case out == 0:
		b.WriteString(l.fill(fmt.Sprintf("pool %s is %s: all %d endpoints take their traffic", pool, l.paint(green, "well"), len(p.Endpoints)), "  ") + "\n")
	}
	if p.Incident != nil {
		b.WriteString("\n" + l.incident(p.Incident, now))
	}
	return b.String()
}

// cure returns a command that an operator can give, with what to know about it. A command that does not
// fit a line goes on as a shell reads it.
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

// explainEndpoint returns what keeps an endpoint from its traffic, in sentences, the command that an
// operator can give, and a few words that follow it; nothing if the endpoint is well.
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
		facts = append(facts, "its breaker is "+e.State+" ("+e.Reason+")")
		switch {
		case e.State == breaker.Recovering.String():
			facts = append(facts, "it has "+formatPart(e.Share)+" of its traffic now, and gets more while requests succeed")
		case !e.Until.IsZero():
			facts = append(facts, "it is tried again within "+formatWait(e.Until, now))
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
		if s := &e.Scopes[i]; isIll(s) {
			facts = append(facts, explainScope(s, now))
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

// explainScope returns what keeps calls of a scope from an endpoint, in one sentence.
func explainScope(s *api.ScopeStatus, now time.Time) string {
	text := "requests of scope " + s.Scope + ": " + strings.Join(scopeNotes(s, now), ", ")
	if !s.DownSince.IsZero() {
		text += ", out since " + stamp(s.DownSince)
	}
	return text
}

// untilAndWhy returns the end of an order and its reason, to follow other text.
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
