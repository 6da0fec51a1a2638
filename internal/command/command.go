// Package command is `caddy failover`, a client of the admin API.
package command

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

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

// Exit codes. Scripts rely on them. The long text of the command explains them.
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
	root.PersistentFlags().String("address", "", "The admin endpoint; default: as in the configuration")
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
	root.AddCommand(statusCommand(), whyCommand(), eventsCommand(), incidentsCommand(), reportCommand())
	for action, short := range map[string]string{
		api.Drain:  "Stops new requests to an endpoint; those in flight finish",
		api.Enable: "Ends a drain or a trip; with --for, forces the breaker closed",
		api.Trip:   "Forces an endpoint's breaker open",
		api.Reset:  "Ends a drain or a trip, closes the breaker, forgets the cooldown",
		api.Set:    "Sets an endpoint's weight or priority, or restores them",
	} {
		root.AddCommand(orderCommand(action, short))
	}
}

// addPoolFlag adds the flag --pool, which completes the names of pools.
func addPoolFlag(cmd *cobra.Command, usage string) {
	cmd.Flags().String("pool", "", usage)
	_ = cmd.RegisterFlagCompletionFunc("pool", func(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
		return completeNames(false)(cmd, nil, typed)
	}) // fails only for an unknown flag
}

// onePool accepts one argument at most.
func onePool(_ *cobra.Command, args []string) error {
	if len(args) > 1 {
		return fmt.Errorf("want one pool at most, not %d arguments", len(args))
	}
	return nil
}

// noArguments accepts no argument.
func noArguments(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("unexpected %q: the option --pool <pool> selects a pool", args[0])
	}
	return nil
}

// anEndpoint accepts an endpoint, and its pool before it.
func anEndpoint(_ *cobra.Command, args []string) error {
	if len(args) != 1 && len(args) != 2 {
		return fmt.Errorf("want [<pool>] <endpoint>, not %d arguments; caddy failover status shows their names", len(args))
	}
	return nil
}

// commandRun returns a function for cobra that finds the admin endpoint, runs a command, prints its
// error, and sets the exit code.
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

// runWithClient runs a command with a client for the admin endpoint that the flags select.
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

// onTerminal reports whether w writes to a terminal.
func onTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
