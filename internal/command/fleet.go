package command

import (
	"cmp"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/apifailover/caddy-failover/internal/api"
)

// showFleet prints the status of the fleet, as text or as JSON.
func showFleet(c *client, out io.Writer, asJSON bool) error {
	var fleet api.FleetStatus
	text, err := c.exchange(http.MethodGet, api.Root+"fleet", nil, &fleet)
	switch {
	case err != nil:
		return err
	case asJSON:
		fmt.Fprintln(out, api.PrintableJSON(text))
	default:
		fmt.Fprint(out, layoutOf(out).fleet(&fleet, time.Now()))
	}
	return nil
}

// fleetColumns are the columns of the table of instances.
var fleetColumns = []column{{"INSTANCE", 0}, {"VERSION", 2}, {"SEEN", 0}, {"OUT", 1}}

// fleet returns a table of the instances, and the number of instances at which each endpoint is open.
func (l layout) fleet(f *api.FleetStatus, now time.Time) string {
	var b strings.Builder
	state := "connected, " + formatSeconds(f.Lag) + " behind"
	if !f.Connected {
		state = l.paint(red, "NOT CONNECTED") + ", " + formatSeconds(f.Lag) + " behind"
	}
	b.WriteString(l.fill(fmt.Sprintf("fleet %s: %s, %d instances", l.paint(bold, api.Printable(f.Name)), state, len(f.Instances)), "  ") + "\n")
	var rows []row
	var names []string // of open endpoints, in the order of the table
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
				names = append(names, name)
			}
			count[name]++
			if o.State != "open" {
				name += " " + o.State
			}
			open = append(open, name)
		}
		r := row{cells: []string{api.Printable(i.Name), api.Printable(cmp.Or(i.Release, "-")), seen, fmt.Sprint(len(open))}}
		if len(open) > 0 {
			r.below = []string{api.Printable("out: " + strings.Join(open, ", "))}
		}
		rows = append(rows, r)
	}
	l.table(&b, "  ", fleetColumns, rows)
	for _, name := range names {
		b.WriteString(l.fill(fmt.Sprintf("%s: open at %d of %d", api.Printable(name), count[name], len(f.Instances)), "  ") + "\n")
	}
	return b.String()
}
