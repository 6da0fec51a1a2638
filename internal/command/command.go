// Package command is `caddy failover`, a client of the admin API.
package command

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/apifailover/caddy-failover/internal/api"
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "failover",
		Usage: "<command>",
		Short: "Shows and controls the failover pools of a running Caddy",
		Long: `
Shows and controls the failover pools of a running Caddy, through its admin
endpoint. It finds the address as caddy reload does: --address, else the admin
address in the configuration file of --config, else the default.

Exit codes:

	0  done
	1  wrong usage, or an error without a code of its own
	2  no Caddy with this plugin responds at the address
	3  no such pool or endpoint
	4  Caddy refused the request
	5  status --check: an endpoint does not take its full traffic
	6  status --check: a pool is down
	7  drain --wait: requests are still in flight
`,
		CobraFunc: addCommands,
	})
}

// Exit codes. Scripts rely on them; the text of the command explains them.
const (
	exitDone        = 0
	exitError       = 1
	exitUnreachable = 2
	exitUnknown     = 3
	exitRefused     = 4
	exitDegraded    = 5
	exitDown        = 6
	exitInFlight    = 7
)

// A commandError is an error with an exit code of its own.
type commandError struct {
	code int
	err  error // nil: no message
}

// Error implements error.
func (e *commandError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

// Unwrap returns the cause.
func (e *commandError) Unwrap() error { return e.err }

// addCommands adds the subcommands.
func addCommands(root *cobra.Command) {
	root.PersistentFlags().String("address", "", "Address of the admin endpoint; default: as in the configuration")
	root.PersistentFlags().StringP("config", "c", "", "Configuration file with the admin endpoint's address")
	root.PersistentFlags().StringP("adapter", "a", "", "Name of config adapter to apply")
	root.SuggestionsMinimumDistance = 2
	root.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		text := fmt.Sprintf("unknown command %q of %s", args[0], cmd.CommandPath())
		if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
			text += "; did you mean " + strings.Join(near, " or ") + "?"
		}
		return errors.New(text)
	}
	root.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }

	status := &cobra.Command{
		Use:   "status [<pool>] [--watch] [--check] [--fleet] [--json]",
		Short: "Shows the state of pools and their endpoints",
		Args:  cobra.MaximumNArgs(1),
		RunE:  commandRun(runStatus),
	}
	status.Flags().BoolP("watch", "w", false, "Show it again every --interval until interrupted")
	status.Flags().Duration("interval", time.Second, "Time between two updates of --watch")
	status.Flags().Bool("check", false, "Exit with 5 if an endpoint is out, with 6 if a pool is")
	status.Flags().Bool("fleet", false, "Show the instances of the fleet and the endpoints that each has open")
	status.Flags().Bool("json", false, "Print the admin API's response")

	why := &cobra.Command{
		Use:   "why [<pool>] [--json]",
		Short: "Explains what is out: since when, why, and what an operator can do",
		Args:  cobra.MaximumNArgs(1),
		RunE:  commandRun(runWhy),
	}
	why.Flags().Bool("json", false, "Print the admin API's response")
	status.ValidArgsFunction, why.ValidArgsFunction = completeNames(false), completeNames(false)

	events := &cobra.Command{
		Use:   "events [--follow] [--pool <pool>] [--since <id|time|duration>] [--limit <n>] [--fleet] [--json]",
		Short: "Shows what happened: failovers, breakers, cooldowns, operator actions",
		Args:  cobra.NoArgs,
		RunE:  commandRun(runEvents),
	}
	events.Flags().BoolP("follow", "f", false, "Print new events as they happen")
	events.Flags().String("pool", "", "Only events of this pool")
	events.Flags().String("since", "", "Only events after this one: ID, time (RFC 3339) or duration before now")
	events.Flags().Bool("fleet", false, "Events of all instances of the fleet")
	events.Flags().Int("limit", 50, "Maximum number; the newest are shown")
	events.Flags().Bool("json", false, "Print one JSON object per line")

	incidents := &cobra.Command{
		Use:   "incidents [--pool <pool>] [--limit <n>] [--json]",
		Short: "Shows outages: when, why, and how many requests failed or were saved",
		Args:  cobra.NoArgs,
		RunE:  commandRun(runIncidents),
	}
	incidents.Flags().String("pool", "", "Only outages of this pool")
	incidents.Flags().Int("limit", 20, "Maximum number; the newest are shown")
	incidents.Flags().Bool("json", false, "Print the admin API's response")

	report := &cobra.Command{
		Use:   "report [--pool <pool>] [--from <time>] [--to <time>] [--format md|html|json|csv] [--lang en|zh]",
		Short: "Prints the SLA report of a pool",
		Args:  cobra.NoArgs,
		RunE:  commandRun(runReport),
	}
	report.Flags().String("pool", "", "The pool; required if there are several")
	report.Flags().String("from", "", "Begin: RFC 3339 time, date, or duration before now; default: the SLA's window before the end")
	report.Flags().String("to", "", "End, in the same forms; default: now")
	report.Flags().String("format", "md", "md, html, json or csv")
	report.Flags().String("lang", "", "Language of --format html: en or zh; default: en")
	report.Flags().Bool("json", false, "The same as --format json")

	for _, cmd := range []*cobra.Command{events, incidents, report} {
		_ = cmd.RegisterFlagCompletionFunc("pool", func(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
			return completeNames(false)(cmd, nil, typed)
		}) // fails only for an unknown flag
	}
	for flag, values := range map[string][]string{"format": {"md", "html", "json", "csv"}, "lang": {"en", "zh"}} {
		_ = report.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
	}
	root.AddCommand(status, why, events, incidents, report)
	for action, short := range map[string]string{
		api.Drain:  "Stops new requests to an endpoint; those in flight finish",
		api.Enable: "Ends a drain or a trip; with --for, forces the breaker closed for that time",
		api.Trip:   "Forces an endpoint's breaker open",
		api.Reset:  "Ends a drain or a trip, closes the breaker, and forgets the endpoint's score and cooldown",
		api.Set:    "Sets an endpoint's weight or priority, or restores the configured ones",
	} {
		use := action + " [<pool>] <endpoint> "
		if action == api.Set {
			use += "[--weight <n>|configured] [--priority <n>|configured] "
		}
		if action != api.Reset {
			use += "[--for <duration>] "
		}
		use += "[--reason <text>] [--fleet | --here] [--json]"
		if action == api.Drain {
			use += " [--wait <duration>]"
		}
		cmd := &cobra.Command{Use: use, Short: short, Args: cobra.RangeArgs(1, 2), ValidArgsFunction: completeNames(true)}
		cmd.RunE = commandRun(func(c *client, cmd *cobra.Command, args []string) error {
			return runOrder(c, cmd, action, args)
		})
		cmd.Flags().String("reason", "", "Why; shown with the endpoint")
		cmd.Flags().Bool(api.InFleet, false, "At all instances of the fleet; the default in a fleet")
		cmd.Flags().Bool(api.Here, false, "At this instance alone")
		cmd.Flags().Bool("json", false, "Print the admin API's response")
		if action != api.Reset {
			cmd.Flags().String("for", "", "How long the action lasts, such as 10m; default: until it is undone")
		}
		if action == api.Set {
			cmd.Flags().String(api.Weight, "", "Its share of its tier, 0 for no traffic; \"configured\" for the configuration's")
			cmd.Flags().String(api.Priority, "", "Its tier, from 1; \"configured\" for the configuration's")
		}
		if action == api.Drain {
			cmd.Flags().Duration("wait", 0, "Wait at most this long for requests in flight to finish")
		}
		root.AddCommand(cmd)
	}
}

// commandRun returns the cobra function for a command: it finds the admin endpoint,
// prints errors, and sets the exit code.
func commandRun(run func(*client, *cobra.Command, []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		cmd.SilenceUsage, cmd.SilenceErrors = true, true
		err := runWithClient(run, cmd, args)
		if err == nil {
			return nil
		}
		failed, ok := errors.AsType[*commandError](err)
		if !ok {
			failed = &commandError{exitError, err}
		}
		if failed.err != nil {
			fmt.Fprintf(cmd.ErrOrStderr(), "caddy failover: %s\n", api.PrintableLines(failed.err.Error()))
		}
		if failed.code == exitError {
			return failed
		}
		// Caddy takes exit codes only from a CommandFunc.
		return caddycmd.WrapCommandFuncForCobra(func(caddycmd.Flags) (int, error) { return failed.code, nil })(cmd, args)
	}
}

func runWithClient(run func(*client, *cobra.Command, []string) error, cmd *cobra.Command, args []string) error {
	flags := caddycmd.Flags{FlagSet: cmd.Flags()}
	address, err := caddycmd.DetermineAdminAPIAddress(flags.String("address"), nil, flags.String("config"), flags.String("adapter"))
	if err != nil {
		return fmt.Errorf("finding the admin endpoint: %w", err)
	}
	c, err := newClient(cmd.Context(), address)
	if err != nil {
		return err
	}
	return run(c, cmd, args)
}

// runReport prints a report of the admin endpoint. On a terminal it escapes invisible characters.
func runReport(c *client, cmd *cobra.Command, _ []string) error {
	flags := caddycmd.Flags{FlagSet: cmd.Flags()}
	query := url.Values{}
	for _, name := range []string{"pool", "from", "to", "format"} {
		if value := flags.String(name); value != "" {
			query.Set(name, value)
		}
	}
	if flags.Bool("json") {
		if cmd.Flags().Changed("format") && flags.String("format") != "json" {
			return errors.New("--json and --format contradict each other")
		}
		query.Set("format", "json")
	}
	if lang := flags.String("lang"); lang != "" {
		if query.Get("format") != "html" {
			return errors.New("--lang needs --format html")
		}
		if lang == "zh" {
			lang = "zh-CN" // the admin API's name
		}
		query.Set("lang", lang)
	}
	resp, err := c.send(http.MethodGet, api.Root+"report?"+query.Encode(), nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	for _, warning := range resp.Header.Values(api.WarningField) {
		fmt.Fprintf(cmd.ErrOrStderr(), "caddy failover: the report is incomplete: %s\n", api.Printable(warning))
	}
	out := cmd.OutOrStdout()
	if !onTerminal(out) {
		if _, err := io.Copy(out, resp.Body); err != nil {
			return fmt.Errorf("reading the report: %w", err)
		}
		return nil
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return fmt.Errorf("reading the report: %w", err)
	}
	fmt.Fprint(out, api.PrintableLines(string(text)))
	return nil
}

// onTerminal reports whether w writes to a terminal.
func onTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
