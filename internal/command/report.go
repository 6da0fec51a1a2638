package command

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/apifailover/caddy-failover/internal/api"
)

func reportCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "report [--pool <pool>] [--from <time>] [--to <time>] [--format md|html|json|csv] [--lang en|zh]",
		Short: "Prints the SLA report of a pool",
		Args:  noArguments,
		RunE:  commandRun(runReport),
	}
	addPoolFlag(cmd, "The pool; required if there are several")
	cmd.Flags().String("from", "", "RFC 3339 time, date, or duration before now")
	cmd.Flags().String("to", "", "End, in the same forms; default: now")
	cmd.Flags().String("format", "md", "md, html, json or csv")
	cmd.Flags().String("lang", "", "Language of --format html: en or zh; default: en")
	cmd.Flags().Bool("json", false, "The same as --format json")
	for flag, values := range map[string][]string{"format": {"md", "html", "json", "csv"}, "lang": {"en", "zh"}} {
		_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)) // fails only for an unknown flag
	}
	return cmd
}

// runReport prints an SLA report. On a terminal it escapes invisible characters.
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
