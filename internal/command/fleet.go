package command

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/apifailover/caddy-failover/internal/api"
)

// formatFleet returns a table of the instances, and where they differ: at how many of them an
// endpoint is open.
func formatFleet(f *api.FleetStatus, now time.Time) string {
	var b strings.Builder
	state := "connected, " + formatSeconds(f.Lag) + " behind"
	if !f.Connected {
		state = "NOT CONNECTED, " + formatSeconds(f.Lag) + " behind"
	}
	fmt.Fprintf(&b, "fleet %s: %s, %d instances\n", api.Printable(f.Name), state, len(f.Instances))
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "  instance\tversion\tseen\topen")
	var order []string
	count := make(map[string]int)
	for _, i := range f.Instances {
		seen, open := "this one", []string{}
		if !i.Self {
			seen = max(0, now.Sub(i.Seen)).Round(time.Second).String() + " ago"
		}
		for _, o := range i.Open {
			name := o.Pool + "/" + o.Endpoint
			if o.Scope != "" {
				name += " (" + o.Scope + ")"
			}
			if count[name] == 0 {
				order = append(order, name)
			}
			count[name]++
			if o.State != "open" {
				name += " " + o.State
			}
			open = append(open, name)
		}
		release := i.Release
		if release == "" {
			release = "-"
		}
		if len(open) == 0 {
			open = []string{"-"}
		}
		fmt.Fprintf(w, "  %s\t%s\t%s\t%s\n", api.Printable(i.Name), api.Printable(release), seen, api.Printable(strings.Join(open, ", ")))
	}
	w.Flush()
	for _, name := range order {
		fmt.Fprintf(&b, "%s: open at %d of %d\n", api.Printable(name), count[name], len(f.Instances))
	}
	return b.String()
}
