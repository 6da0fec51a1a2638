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
	"github.com/apifailover/caddy-failover/internal/incident"
)

func incidentsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "incidents [--pool <pool>] [--limit <n>] [--json]",
		Short: "Shows outages: when, why, and what they cost",
		Args:  noArguments,
		RunE:  commandRun(runIncidents),
	}
	addPoolFlag(cmd, "Only outages of this pool")
	cmd.Flags().Int("limit", 20, "Maximum number; the newest are shown")
	cmd.Flags().Bool("json", false, "Print the admin API's response")
	return cmd
}

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
	out := cmd.OutOrStdout()
	fmt.Fprint(out, layoutOf(out).incidents(all))
	return nil
}

// incidentColumns are the columns of the table of outages.
var incidentColumns = []column{{"START", 0}, {"LASTED", 0}, {"POOL", 0}, {"KIND", 1}, {"FAILED", 2}, {"SAVED", 3}}

// incidents returns a table of outages, with the cause and the endpoints of each below its row.
func (l layout) incidents(all []incident.Incident) string {
	if len(all) == 0 {
		return "no incidents\n"
	}
	var b strings.Builder
	rows := make([]row, 0, len(all))
	for _, i := range all {
		lasted := "going on"
		if !i.End.IsZero() {
			lasted = i.End.Sub(i.Start).Round(time.Second).String()
		}
		kind := l.paint(yellow, api.Printable(i.Kind))
		if i.Kind == incident.Down {
			kind = l.paint(red, api.Printable(i.Kind))
		}
		names := make([]string, len(i.Endpoints))
		for n, e := range i.Endpoints {
			names[n] = e.Name
		}
		r := row{cells: []string{formatTime(i.Start), lasted, "", kind, fmt.Sprint(i.Failed), fmt.Sprint(i.Saved)}}
		what := "cause: " + causeOf(i.Cause)
		if len(names) > 0 {
			what += "; out: " + strings.Join(names, ", ")
		}
		if i.Interrupted {
			what += "; interrupted, because Caddy ended"
		}
		if r.cells[2] = api.Printable(i.Pool); columnsOf(r.cells[2]) > widestPool {
			what, r.cells[2] = "pool: "+i.Pool+"; "+what, "-"
		}
		r.below = []string{api.Printable(what)}
		rows = append(rows, r)
	}
	l.table(&b, "", incidentColumns, rows)
	return b.String()
}

// widestPool is the maximum width of a pool's name in the table of outages, in columns. A longer name
// is below the row.
const widestPool = 16

// incident returns a line about the current outage: its start, cause and cost.
func (l layout) incident(i *incident.Incident, now time.Time) string {
	what := l.paint(yellow, "degraded")
	if i.Kind == incident.Down {
		what = l.paint(red, "outage")
	}
	return l.fill(fmt.Sprintf("  %s since %s (%s): %s; %d requests failed, %d saved by failover", what, formatTime(i.Start),
		max(0, now.Sub(i.Start)).Round(time.Second), api.Printable(causeOf(i.Cause)), i.Failed, i.Saved), "    ") + "\n"
}
