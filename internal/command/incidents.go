package command

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/apifailover/caddy-failover/internal/api"
	"github.com/apifailover/caddy-failover/internal/incident"
)

// runIncidents shows outages, oldest first.
func runIncidents(c *client, cmd *cobra.Command, _ []string) error {
	flags := caddycmd.Flags{FlagSet: cmd.Flags()}
	query := url.Values{"limit": {flags.String("limit")}}
	if name := flags.String("pool"); name != "" {
		query.Set("pool", name)
	}
	var all []incident.Incident
	text, err := c.exchange(http.MethodGet, api.Root+"incidents?"+query.Encode(), nil, &all)
	if err != nil {
		return err
	}
	if flags.Bool("json") {
		fmt.Fprintln(cmd.OutOrStdout(), api.PrintableJSON(text))
		return nil
	}
	fmt.Fprint(cmd.OutOrStdout(), formatIncidents(all))
	return nil
}

// formatIncidents returns a table of outages.
func formatIncidents(all []incident.Incident) string {
	if len(all) == 0 {
		return "no incidents\n"
	}
	var b strings.Builder
	table := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "START\tLASTED\tPOOL\tKIND\tFAILED\tSAVED\tENDPOINTS\tCAUSE")
	for _, i := range all {
		lasted := "goes on"
		if !i.End.IsZero() {
			lasted = i.End.Sub(i.Start).Round(time.Second).String()
		}
		if i.Interrupted {
			lasted += ", interrupted"
		}
		names := make([]string, len(i.Endpoints))
		for n, e := range i.Endpoints {
			names[n] = e.Name
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%d\t%d\t%s\t%s\n", i.Start.Local().Format(time.DateTime), lasted, api.Printable(i.Pool),
			api.Printable(i.Kind), i.Failed, i.Saved, api.Printable(strings.Join(names, ", ")), api.Printable(i.Cause))
	}
	table.Flush()
	return b.String()
}

// formatIncident returns a line about an outage that goes on: its start, cause and cost.
func formatIncident(i *incident.Incident, now time.Time) string {
	what := "degraded"
	if i.Kind == incident.Down {
		what = "outage"
	}
	return fmt.Sprintf("  %s since %s (%s): %s; %d requests failed, %d saved by failover\n", what, i.Start.Local().Format(time.DateTime),
		max(0, now.Sub(i.Start)).Round(time.Second), api.Printable(i.Cause), i.Failed, i.Saved)
}
